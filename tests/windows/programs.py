"""The programs that the tests inside Windows dump or run; paths come with the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import oracle
from tests.support.targets import Running

DEBUGGERS = "MINIDUMPER_TEST_DEBUGGERS"
"""The environment's name of the folder with Microsoft's debugger libraries."""
DOTNET = "MINIDUMPER_TEST_DOTNET"
"""The environment's name of the path of dotnet.exe."""
ORACLE_DEADLINE_S = 120.0
TARGETS = "MINIDUMPER_TEST_TARGETS"
"""The environment's name of the folder with the built test programs."""


@contextmanager
def running(program: str = "GcHeap", *args: str) -> Iterator[Running]:
    """A test program on Windows .NET that stands; killed and reaped at the end."""
    path = os.path.join(os.environ[TARGETS], program, "release", f"{program}.dll")
    process = subprocess.Popen(
        [os.environ[DOTNET], "exec", path, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        target = Running(process)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    try:
        yield target
    finally:
        target.end()


def sections(dump: str, *names: str) -> oracle.Sections:
    """What ClrMD reads, nothing from the disk but the DAC: those sections, or all."""
    program = Path(os.environ[TARGETS], "Oracle", "release", "Oracle.dll")
    (dac,) = Path(os.environ[DOTNET]).parent.glob("shared/Microsoft.NETCore.App/*/mscordaccore.dll")
    done = subprocess.run(
        [
            *(os.environ[DOTNET], "exec", program, "dump", dump, dac),
            *(("--sections", ",".join(names)) if names else ()),
        ],
        capture_output=True,
        timeout=ORACLE_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return oracle.parsed(done.stdout.decode())


@contextmanager
def python(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `code`, with pipes; killed and reaped at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
