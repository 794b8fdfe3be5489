"""Exceptions: caught at the throw and at the end, told right, missed or counted twice never."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from elftools.elf.elffile import ELFFile

from minidumper import Monitor, planning
from minidumper.dumpinfo import dump_info
from minidumper.plan import DumpMode
from minidumper.report import ExceptionInfo
from minidumper.verification import verify
from tests.support import gates, processes
from tests.support.commands import minidumper, started
from tests.support.targets import command, running
from tests.support.waiting import (
    BREAKPOINTS,
    DEBUGGER,
    assert_well,
    await_line,
    begun,
    first_thread,
    frames,
    launch,
    launched,
    reports,
    sections,
    tell,
    watched,
    way_prefix,
)
from tests.support.waiting_kills import GUARDIAN, pid_of, wait_killer

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host", "perf-breakpoints")

VERSIONS = ["10.0.14", "9.0.22", pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes"))]
RARE = "Faults.RareException"
DEADLINE_S = 60


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("kind", "type_", "inner"),
    [
        ("unhandled", RARE, [["System.FormatException", "inside"]]),
        ("finalizer", RARE, []),
        ("failfast", "System.ExecutionEngineException", []),
        ("overflow", "System.StackOverflowException", []),
    ],
)
def test_unhandled(
    kind: str, type_: str, inner: list[list[str]], version: str, tmp_path: Path
) -> None:
    with running("Faults", version) as app:
        with started("-mh", "--json", "-e", app.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            tell(app, f"end {kind}")
            (report,) = reports(own)
        assert app.process.wait(DEADLINE_S) == -6
    told = report["exception"]
    assert (report["trigger"], told["code"], told["chance"]) == ("exception", "E0434352", 2)
    assert (told["type"], told["inner"]) == (type_, inner)
    found = sections(report, version, "exceptions", "stacks")
    assert any(line.startswith(f"{told['tid']} ") and type_ in line for line in found["exceptions"])
    assert any("Faults.Program" in line for line in frames(found["stacks"], told["tid"]))


@pytest.mark.gate("gdb")
@pytest.mark.parametrize(("kind", "signal"), [("segv", 11), ("abort", 6)])
def test_native_crash(kind: str, signal: int, tmp_path: Path) -> None:
    with running("Faults") as app:
        with started("-mm", "--json", "-e", app.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            tell(app, f"end {kind}")
            (report,) = reports(own)
        assert app.process.wait(DEADLINE_S) == -signal
    told = report["exception"]
    assert (report["trigger"], told["code"]) == ("crash", f"{signal:08X}")
    assert first_thread(report["path"]) == told["tid"]
    info = minidumper("info", report["path"], cwd=tmp_path).stdout
    assert f"{told['type']} unhandled in thread {told['tid']}" in info
    stacks = sections(report, "10.0.14", "stacks")["stacks"]
    assert any("Faults.Program.End" in line for line in frames(stacks, told["tid"]))


@pytest.mark.parametrize("version", VERSIONS)
def test_held_where_native_code_throws(version: str, tmp_path: Path) -> None:
    with running("Faults", version) as app:
        words = ("-mh", "--json", "-e", "1", "-f", "InvalidCast", app.pid)
        with started(*words, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            assert app.ask("caught cast") == "InvalidCastException"
            (report,) = reports(own)
        assert_well(app)
    stacks = sections(report, version, "stacks")["stacks"]
    tid = report["exception"]["tid"]
    lines = frames(stacks, tid)
    assert "CastHelpers" in next(line for line in lines if "ManagedMethod" in line)
    assert any("<Caught>" in line for line in lines)
    (thread,) = [row for row in dump_info(report["path"]).threads if row.tid == tid]
    assert thread.place.startswith("libcoreclr.so+0x")
    assert verify(report["path"]).problems == ()


@pytest.mark.gate("gdb")
@pytest.mark.parametrize("version", VERSIONS)
def test_held_exactly_at_the_throw(version: str, tmp_path: Path) -> None:
    with running("Faults", version) as app:
        words = ("-mm", "--json", "-e", "1", "-f", "*a rare*", "-n", 2, app.pid)
        with started(*words, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            assert app.ask("caught inner") == "RareException"
            assert app.ask("caught rare") == "RareException"
            assert app.ask("caught rare") == "RareException"
            report, second = reports(own)
        assert app.alive()
    assert second["exception"]["type"] == RARE
    told = report["exception"]
    assert (told["code"], told["chance"], told["message"]) == ("E0434352", 1, "a rare one")
    assert first_thread(report["path"]) == told["tid"]
    stacks = sections(report, version, "stacks")["stacks"]
    methods = [line for line in frames(stacks, told["tid"]) if "ManagedMethod" in line]
    assert "<Caught>" in methods[0]
    with open(report["path"], "rb") as file:
        loads = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"]
        spans = [(load["p_vaddr"], load["p_vaddr"] + load["p_filesz"]) for load in loads]
    assert any(start <= told["address"] < end for start, end in spans)
    info = minidumper("info", report["path"], cwd=tmp_path).stdout
    said = f'{RARE} ("a rare one") thrown in thread {told["tid"]}, object 0x{told["address"]:x}'
    assert said in info


def noting(found: list[ExceptionInfo]) -> Callable[[ExceptionInfo], bool]:
    """Collects exceptions, and wants a dump of none."""

    def decide(exception: ExceptionInfo) -> bool:
        found.append(exception)
        return False

    return decide


def names(found: list[ExceptionInfo]) -> list[str]:
    return [exception.type.rpartition(".")[2] for exception in found]


KINDS = (
    *("rare", "rethrow", "async", "dynamic", "thread", "null", "divide", "index"),
    *("cast", "method", "initializer", "library"),  # by native code of the runtime
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", ["cast", "rethrow"])
def test_every_exception_is_seen_once(first: str, version: str, way: str, tmp_path: Path) -> None:
    """As the runtime tells of first chances itself (AppDomain.FirstChanceException)."""
    assert_each_seen_once(first, version, tmp_path)


@pytest.mark.parametrize("first", ["cast", "rethrow"])
def test_the_older_way_of_net_9_to_throw(first: str, tmp_path: Path) -> None:
    environment = {"DOTNET_LegacyExceptionHandling": "1"}
    assert_each_seen_once(first, "9.0.22", tmp_path, environment)


def assert_each_seen_once(
    first: str, version: str, folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    found: list[ExceptionInfo] = []
    with running("Faults", version, env=environment) as app:
        monitor = Monitor(app.pid, DumpMode.MINIMAL, f"{folder}/")
        monitor.on_exception(1, decide=noting(found))
        with watched(monitor):
            app.ask("chances")
            for kind in (first, *KINDS):
                found.clear()
                caught = app.ask(f"caught {kind}")
                told = app.ask("chances").split(",")
                assert names(found) == told
                assert caught == told[-1]
        assert_well(app)


@pytest.mark.gate("old-runtimes")
def test_what_is_not_seen_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the function is not found that all exceptions pass; the helpers are watched instead."""
    monkeypatch.setattr(planning, "throw_site", lambda *_: None)
    found: list[ExceptionInfo] = []
    with running("Faults", "8.0.4") as app:
        monitor = Monitor(app.pid, DumpMode.MINIMAL, f"{tmp_path}/")
        monitor.on_exception(1, decide=noting(found))
        with watched(monitor):
            for kind in ("rare", "cast", "null", "index", "rethrow"):
                app.ask(f"caught {kind}")
        assert_well(app)
    assert names(found) == [
        *("RareException", "NullReferenceException", "IndexOutOfRangeException"),
        *("RareException", "RareException"),
    ]
    assert any("failed casts" in message for message in caplog.messages)


def test_what_is_seen_late_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same from .NET 9 on; the thread is then held at a precode, and the dump lacks nothing."""
    monkeypatch.setattr(planning, "throw_site", lambda *_: None)
    with running("Faults") as app:
        monitor = Monitor(app.pid, DumpMode.HEAP, f"{tmp_path}/")
        monitor.on_exception(1, filter="InvalidCast")
        with watched(monitor) as taken:
            assert app.ask("caught rare") == "RareException"
            while taken.thread.is_alive():
                assert app.ask("caught cast") == "InvalidCastException"
        assert_well(app)
    assert taken.error is None
    (report,) = taken.reports
    assert report.moment
    assert report.moment.exception
    (thread,) = [
        row for row in dump_info(report.path).threads if row.tid == report.moment.exception.tid
    ]
    assert thread.place == f"a stub at 0x{thread.ip:x}"
    assert verify(report.path).problems == ()
    assert any("failed casts" in message for message in caplog.messages)


CHOICES: list[tuple[dict[str, Any], list[str]]] = [
    ({"type": RARE}, ["RareException", "VeryRareException"]),
    ({"filter": "rare one", "exclude": "very"}, ["RareException"]),
    ({"type": "System.SystemException"}, ["NullReferenceException"]),
    ({"type": "Faults.Rare*"}, ["RareException", "VeryRareException"]),
    ({"type": "RareException"}, []),
    ({"filter": 'e0434352.faults.*("a *rare one")'}, ["RareException", "VeryRareException"]),
    ({"filter": "[a-z]"}, []),
    ({"type": RARE, "filter": ["nobody", "very"]}, ["VeryRareException"]),
]


@pytest.mark.parametrize(
    ("choice", "types", "way"),
    [(*choice, BREAKPOINTS) for choice in CHOICES]
    + [(*choice, DEBUGGER) for choice in CHOICES[:3]],
    indirect=["way"],
    ids=str,
)
def test_choices(choice: dict[str, Any], types: list[str], way: str, tmp_path: Path) -> None:
    with running("Faults") as app:
        found: list[ExceptionInfo] = []
        monitor = Monitor(app.pid, DumpMode.MINIMAL, f"{tmp_path}/")
        monitor.on_exception(1, decide=noting(found), **choice)
        with watched(monitor):
            for kind in ("rare", "derived", "null"):
                app.ask(f"caught {kind}")
        assert_well(app)
    assert names(found) == types


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", [DEBUGGER], indirect=True)
def test_thrown_in_a_finalizer(version: str, way: str, tmp_path: Path) -> None:
    with running("Faults", version) as app:
        words = ("-mm", "--json", "-e", 1, "--type", RARE, app.pid)
        with started(*words, cwd=tmp_path, prefix=way_prefix(way)) as own:
            await_line(own, "waiting in process")
            tell(app, "end finalizer")
            (report,) = reports(own)
        assert app.process.wait(DEADLINE_S) == -6
    told = report["exception"]
    assert (told["chance"], told["type"]) == (1, RARE)
    lines = frames(sections(report, version, "stacks")["stacks"], told["tid"])
    assert any("Finalize" in line for line in lines)


def test_async_lets_threads_go_on_before_the_file_is_written(way: str, tmp_path: Path) -> None:
    """That of the moment, and those that throw meanwhile what does not count."""
    with running("Faults") as app:
        gone_on = threading.Event()

        def wait(_written: int, _all: int) -> None:
            assert gone_on.wait(DEADLINE_S)

        monitor = Monitor(
            app.pid, DumpMode.MINIMAL, f"{tmp_path}/", async_copy=True, progress=wait, count=2
        )
        monitor.on_exception(1, type=RARE)
        with watched(monitor) as taken:
            assert app.ask("caught rare") == "RareException"
            assert app.ask("caught null") == "NullReferenceException"
            gone_on.set()
            assert app.ask("caught rare") == "RareException"
            taken.thread.join(DEADLINE_S)
        assert taken.error is None
        for report in taken.reports:
            assert report.moment
            assert report.moment.exception
            assert report.moment.exception.type == RARE
        assert len({report.path for report in taken.reports}) == 2
        assert_well(app)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rare_one_among_many(version: str, way: str, tmp_path: Path) -> None:
    """Six threads throw all the time; the target loses no exception of its own."""
    with running("Faults", version) as app:
        assert app.ask("many 6") == "throwing"
        for option, value in (("-f", "*Rare*"), ("--type", RARE)):
            choice = ("-e", "1", option, value, "-n", 2, app.pid)
            with started("-mm", "--json", *choice, cwd=tmp_path, prefix=way_prefix(way)) as own:
                await_line(own, "waiting in process")
                assert app.ask("caught rare") == "RareException"
                assert app.ask("caught derived") == "VeryRareException"
                found = reports(own)
            types = [report["exception"]["type"] for report in found]
            assert types == [RARE, "Faults.VeryRareException"]
        thrown = int(app.ask("thrown"))
        while int(app.ask("thrown")) < thrown + 100:
            pass
        assert app.alive()


def test_launched_and_watched_from_the_start(tmp_path: Path) -> None:
    words = ("-mm", "--json", "-e", "1", "--type", RARE)
    typed = "caught rare\nend exit\n"
    done = launch(*words, program=command("Faults", "10.0.14"), cwd=tmp_path, typed=typed)
    assert done.returncode == 7, done.stderr
    (report,) = json.loads(done.stdout[done.stdout.index("[") :])
    assert report["exception"]["message"] == "a rare one"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_program_waits_for_a_minidumper_that_comes_late(version: str, tmp_path: Path) -> None:
    """It is held before it runs its code, however long it takes to look at it."""
    with launched(version, tmp_path, BREAKPOINTS) as own:
        pid = begun(own)
        own.send_signal(signal.SIGSTOP)
        while processes.state(own.pid) != "T":
            pass
        while "t" not in (state := processes.state(pid)):
            assert state != "Z", "it ran to its end"
        own.send_signal(signal.SIGCONT)
        out, said = own.communicate(timeout=DEADLINE_S)
    assert own.returncode == 7, said
    (report,) = json.loads(out[out.index("[") :])
    assert report["exception"]["type"] == "System.InvalidCastException"


def test_a_native_program_that_hosts_dotnet(tmp_path: Path) -> None:
    script = """
import pythonnet
pythonnet.load("coreclr")
import System
try:
    System.Int32.Parse("x")
except System.FormatException:
    pass
"""
    done = launch(
        *("-mm", "--json", "-e", "1", "-f", "FormatException"),
        program=[sys.executable, "-c", script],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["exception"]["type"] == "System.FormatException"


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """`python -m tests.support.waiting_kills` does this 1,000 times."""
    with wait_killer(tmp_path, seed=5) as killer:
        for _ in range(50):
            killer.play()
    assert killer.outcomes.total() == 50


def test_the_guardian_killed_while_thousands_are_thrown(tmp_path: Path) -> None:
    """A hit on its way to it must not end the target."""
    with wait_killer(tmp_path, seed=6) as killer:
        for _ in range(4):
            killer.play(GUARDIAN)


def test_threads_that_come_and_go(tmp_path: Path) -> None:
    """Each is watched from its birth, which takes descriptors; where there are none it is told."""
    with (
        running("Faults") as app,
        started("-mm", "-e", "1", "-f", "nothing", app.pid, cwd=tmp_path) as own,
    ):
        await_line(own, "waiting in process")
        guardian = psutil.Process(pid_of(GUARDIAN, own.pid))
        app.ask("caught rare")
        before = guardian.num_fds()
        for _ in range(20):
            app.ask("caught thread")
        assert guardian.num_fds() < before + 20  # the last one may still be on its way out
        guardian.rlimit(psutil.RLIMIT_NOFILE, (before, before))
        app.ask("caught thread")
        await_line(own, "are not seen: Too many open files")
        own.send_signal(signal.SIGINT)
        _, said = own.communicate(timeout=DEADLINE_S)
        assert "exceptions thrown in all: 21\n" in said


class Look(NamedTuple):
    """What a process has at a moment; bytes of malloc's main heap, and all but those of files."""

    malloc: int
    memory: int
    descriptors: int
    threads: int


def test_a_hundred_dumps_in_a_row(tmp_path: Path) -> None:
    """Memory, descriptors and threads stay: ours, those of worker and guardian.

    After fifty, malloc's heap stays to the page; it grew by 67 KB a dump when the DAC's lists of
    the GC's memory were lost (SosDac.cs of the bridge). A heap of .NET's rises and falls, and even
    the lowest of 25 looks by 2.6 MB.
    """
    looks: list[dict[str, Look]] = []
    with running("Faults") as app:
        monitor = Monitor(app.pid, DumpMode.HEAP, f"{tmp_path}/PID.dmp", count=100, overwrite=True)
        monitor.on_exception(1, type=RARE)

        def run() -> None:
            for number, _ in enumerate(monitor.run(), 1):
                if 50 < number < 100:  # before the last all is closed
                    looks.append(looks_of_ours(app.process.pid))

        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            app.ask("caught rare")
        thread.join()
        assert_well(app)
    assert len(looks) == 49
    assert len(looks[0]) == 3
    for who in looks[0]:
        early, late = (lowest([look[who] for look in half]) for half in (looks[:25], looks[25:]))
        assert late.malloc < early.malloc + 250_000, who
        assert late.memory < early.memory + 5_000_000, who
        assert late.descriptors < early.descriptors + 10, who  # files are being finished
        assert late.threads <= early.threads, who


def lowest(looks: Sequence[Look]) -> Look:
    """Of each number the lowest."""
    return Look(*map(min, zip(*looks, strict=True)))


def looks_of_ours(target: int) -> dict[str, Look]:
    """By the command of each of our processes."""
    own = psutil.Process()
    ours = [own, *(child for child in own.children() if child.pid != target)]
    return {" ".join(each.cmdline()): look_at(each) for each in ours}


def look_at(process: psutil.Process) -> Look:
    """Pages of files count as a process's own until another one maps them, so they are left out."""
    maps = process.memory_maps()
    return Look(
        sum(each.rss for each in maps if each.path == "[heap]"),
        sum(each.pss for each in maps if each.path[0] == "[" or each.path.startswith("/memfd:")),
        process.num_fds(),
        process.num_threads(),
    )


@pytest.mark.parametrize("choice", [("-f", "*no such text*"), ("--type", "No.Such")], ids=str)
def test_none_is_missed_or_counted_twice(choice: tuple[str, str], tmp_path: Path) -> None:
    with running("Faults") as app:
        app.ask("rate 100")
        with started("-mm", "-e", "1", *choice, app.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            app.ask("rate 2000")
            own.send_signal(signal.SIGINT)
            _, said = own.communicate(timeout=DEADLINE_S)
        assert "exceptions thrown in all: 2000\n" in said
        assert_well(app)
