"""The programs that the tests inside Windows dump or run; paths come with the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.targets import Running

DEBUGGERS = "MINIDUMPER_TEST_DEBUGGERS"
"""The environment's name of the folder with Microsoft's debugger libraries."""
DOTNET = "MINIDUMPER_TEST_DOTNET"
"""The environment's name of the path of dotnet.exe."""
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
