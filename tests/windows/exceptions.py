"""Waiting for exceptions as a debugger, as others see the dumps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minidumper import CaptureReport, Monitor
from minidumper.platforms.windows.watcher import DebugWatcher
from minidumper.report import ExceptionInfo
from tests.support.targets import Running
from tests.support.waiting import DEADLINE_S, assert_rests, tell, watched

from . import dbgeng
from .programs import python, running, sections

RARE = "Faults.RareException"


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """What it starts stays."""
    dbgeng.load()


@pytest.fixture(scope="module")
def app() -> Iterator[Running]:
    with running("Faults") as program:
        program.ask("chances")  # from now on the runtime notes them
        yield program
        assert program.alive()


def noting(found: list[ExceptionInfo]) -> Callable[[ExceptionInfo], bool]:
    """Collects exceptions, and wants a dump of none."""

    def decide(exception: ExceptionInfo) -> bool:
        found.append(exception)
        return False

    return decide


def names(found: list[ExceptionInfo]) -> list[str]:
    return [exception.type.rpartition(".")[2] for exception in found]


def last_event(report: CaptureReport, folder: Path) -> tuple[str, str]:
    """What the debugger engine says the dump was taken at, and where its thread was."""
    with dbgeng.opened(Path(report.path), folder / "log.txt") as debugger:
        return debugger.run(".lastevent"), debugger.run(".ecxr")


def told(report: CaptureReport) -> ExceptionInfo:
    assert report.moment
    assert report.moment.exception
    return report.moment.exception


def frames(stacks: list[str], tid: int) -> list[str]:
    """The lines of one thread."""
    rest = stacks[stacks.index(f"thread {tid}") + 1 :]
    end = next((i for i, line in enumerate(rest) if line.startswith("thread ")), len(rest))
    return rest[:end]


@pytest.mark.parametrize("mode", ["minimal", "heap"])
def test_held_exactly_at_the_throw(app: Running, tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    monitor = Monitor(app.pid, mode, f"{folder}\\", count=2)
    monitor.on_exception(1, filter="*a rare*")
    with watched(monitor) as taken:
        assert app.ask("caught inner") == "RareException"
        assert app.ask("caught rare") == "RareException"
        assert app.ask("caught rare") == "RareException"
        taken.thread.join(DEADLINE_S)
    report, second = taken.reports
    assert len(list(folder.iterdir())) == 2
    thrown = told(report)
    assert (thrown.code, thrown.chance, thrown.message) == ("E0434352", 1, "a rare one")
    assert (report.warnings, second.warnings) == ((), ())
    event, registers = last_event(report, tmp_path)
    assert f": {report.pid:x}.{thrown.tid:x}: CLR exception - code e0434352" in event
    assert "kernelbase" in registers.lower()
    found = sections(report.path, "exceptions", "stacks")
    assert [line for line in found["exceptions"] if f" {RARE} " in line] == [
        f"{thrown.tid} {thrown.address:x} {RARE} 80131500 a rare one"
    ]
    methods = [line for line in frames(found["stacks"], thrown.tid) if "Faults." in line]
    assert "<Caught>" in methods[0]


KINDS = (
    *("rare", "rethrow", "async", "dynamic", "null", "divide"),
    *("cast", "index", "method"),
)
"""All but what passes through native code of the runtime, in which Wine 8 goes round in circles: a
type initializer's, a missing library's."""


def test_every_exception_is_seen_once(app: Running, tmp_path: Path) -> None:
    """As the runtime tells of first chances itself (AppDomain.FirstChanceException)."""
    found: list[ExceptionInfo] = []
    monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\")
    monitor.on_exception(1, decide=noting(found))
    with watched(monitor):
        for kind in KINDS:
            found.clear()
            app.ask("chances")
            caught = app.ask(f"caught {kind}")
            expected = app.ask("chances").split(",")
            assert names(found) == expected
            assert caught == expected[-1]


@pytest.mark.parametrize(
    ("choice", "types"),
    [
        ({"type": "Faults.Rare*"}, ["RareException", "VeryRareException"]),
        ({"filter": 'e0434352.faults.*("a *rare one")'}, ["RareException", "VeryRareException"]),
        ({"filter": "rare one", "exclude": "very"}, ["RareException"]),
    ],
    ids=str,
)
def test_choices(app: Running, choice: dict[str, Any], types: list[str], tmp_path: Path) -> None:
    found: list[ExceptionInfo] = []
    monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\")
    monitor.on_exception(1, decide=noting(found), **choice)
    with watched(monitor):
        for kind in ("rare", "derived", "null"):
            app.ask(f"caught {kind}")
    assert names(found) == types


def test_between_two_dumps_nothing_comes_to_us(
    app: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of tests/integration/test_waiting_events.py."""
    monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\", count=2, interval_s=1)
    monitor.on_exception(1)
    assert_rests(app, monitor, "rate 5", DebugWatcher, monkeypatch)


def test_unhandled(tmp_path: Path) -> None:
    with running("Faults") as app:
        monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\")
        monitor.on_exception(2)
        with watched(monitor) as taken:
            app.ask("caught rare")
            tell(app, "end unhandled")
            taken.thread.join(DEADLINE_S)
        assert app.process.wait(DEADLINE_S) == 0xE043_4352
    (report,) = taken.reports
    thrown = told(report)
    assert (thrown.code, thrown.chance, thrown.message) == ("E0434352", 2, "nobody")
    assert thrown.inner == (("System.FormatException", "inside"),)
    event, _ = last_event(report, tmp_path)
    assert f": {report.pid:x}.{thrown.tid:x}: CLR exception - code e0434352" in event
    found = sections(report.path, "exceptions", "stacks")
    assert any(line.startswith(f"{thrown.tid} ") and RARE in line for line in found["exceptions"])
    assert any("Faults.Program" in line for line in frames(found["stacks"], thrown.tid))


CRASH = """
import ctypes, sys
sys.stdin.readline()
ctypes.windll.kernel32.CreateThread(None, 0, ctypes.c_void_p(0x1230), None, 0, None)
sys.stdin.read()
"""


def test_native_crash(tmp_path: Path) -> None:
    with python(CRASH) as process:
        monitor = Monitor(process.pid, "full", f"{tmp_path}\\")
        monitor.on_exception(2)
        with watched(monitor) as taken:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            taken.thread.join(DEADLINE_S)
        assert process.wait(DEADLINE_S) == 0xC000_0005
    (report,) = taken.reports
    crash = told(report)
    assert (crash.code, crash.chance, crash.type) == ("C0000005", 2, "ACCESS_VIOLATION")
    event, registers = last_event(report, tmp_path)
    assert f": {report.pid:x}.{crash.tid:x}: Access violation - code c0000005" in event
    assert "rip=0000000000001230" in registers
