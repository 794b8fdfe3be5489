"""SOS itself says that a heap dump equals the full one, and what was thrown.

That of .NET Core 2.1, in lldb: 2.1 is no target that minidumper is for, but the one whose SOS runs
in the lldb of this system.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidumper.plan import DumpMode
from minidumper.report import CaptureReport
from tests.support import gates, runtimes
from tests.support.commands import started
from tests.support.dumps import dump
from tests.support.targets import running
from tests.support.waiting import await_line, reports, tell

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host", "old-runtimes", "lldb")

VERSION = "2.1.30"


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CaptureReport]]:
    """The full and the heap dump of one stop."""
    with running("GcHeap", VERSION) as app:
        yield dump(app.pid, tmp_path_factory.mktemp("dumps"), [DumpMode.FULL, DumpMode.HEAP])


def sos(path: str, command: str) -> list[str]:
    """The lines that a command of SOS prints of a dump."""
    folder = runtimes.framework(VERSION)
    steps = [
        f"plugin load {folder / 'libsosplugin.so'}",
        f"target create {runtimes.root(VERSION) / 'dotnet'} --core {path}",
        f"setclrpath {folder}",
        command,
    ]
    words = [word for step in steps for word in ("-o", step)]
    done = subprocess.run(
        ["lldb", "--no-lldbinit", "--batch", *words],
        env=runtimes.dotnet_environment(VERSION),  # the plugin starts the runtime, too
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition(f"(lldb) {command}")[2].strip().splitlines()


@pytest.mark.parametrize(
    ("command", "proof"),
    [
        ("clrthreads", r"ThreadCount: +[1-9]"),
        ("dumpheap -stat", r"\bSystem\.String\b"),
        ("clrstack", r"Conversation\.Hold"),
        ("clrstack -a", r"PARAMETERS|LOCALS"),
        ("eeheap -gc", r"Total Size"),
        ("sos DumpDomain", r"GcHeap"),
    ],
)
def test_the_same_on_both(dumps: list[CaptureReport], command: str, proof: str) -> None:
    full, heap = (sos(report.path, command) for report in dumps)
    assert re.search(proof, "\n".join(full)), full
    assert heap == full


def waited(chance: str, word: str, folder: Path) -> dict[str, Any]:
    """The report of a heap dump at an exception of the word."""
    with (
        running("Faults", VERSION) as app,
        started("-mh", "--json", "-e", chance, app.pid, cwd=folder) as own,
    ):
        await_line(own, "waiting in process")
        tell(app, word)
        (report,) = reports(own)
        return report


def test_an_unhandled_exception_is_that_of_the_thread(tmp_path: Path) -> None:
    report = waited("2", "end unhandled", tmp_path)
    said = "\n".join(sos(report["path"], "pe"))
    assert re.search(r"Exception type: +Faults\.RareException\nMessage: +nobody\n", said), said
    assert re.search(r"InnerException: +System\.FormatException", said), said
    assert "Faults.Program+<>c.<End>" in said


@pytest.mark.gate("perf-breakpoints")
def test_one_about_to_be_thrown_is_shown_by_its_address(tmp_path: Path) -> None:
    """The runtime keeps it for the thread a moment later; the thread stands where it is thrown."""
    report = waited("1", "caught rare", tmp_path)
    told = report["exception"]
    said = "\n".join(sos(report["path"], f"pe {told['address']:x}"))
    assert re.search(r"Exception type: +Faults\.RareException\nMessage: +a rare one\n", said), said
    thread, _, top, *_ = sos(report["path"], "clrstack")
    assert f"0x{told['tid']:x}" in thread
    assert "Faults.Program+<>c.<Caught>" in top
