"""The second way on Linux, as the runtime's debugger: a seccomp filter forbids breakpoints."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import gates, seccomp
from tests.support.commands import minidumper, started
from tests.support.targets import Running, running
from tests.support.waiting import (
    assert_well,
    await_line,
    first_thread,
    frames,
    reports,
    sections,
)
from tests.support.waiting_kills import DEBUGGER, MINIDUMPER, wait_killer

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

VERSIONS = ["10.0.14", "9.0.22", pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes"))]
RARE = "Faults.RareException"
KINDS = "rare rethrow async dynamic thread null divide index cast method initializer library"
DEADLINE_S = 60
WITHOUT_BREAKPOINTS = seccomp.prefix(seccomp.PERF_EVENT_OPEN)
SAID = "minidumper is the process's debugger"
COSTS = {"10.0.14": "3.4", "9.0.22": "12.8", "8.0.4": "3.5"}


@contextmanager
def waiting(
    app: Running, *words: str | int, cwd: Path, said: str = SAID
) -> Iterator[subprocess.Popen[str]]:
    """A minidumper that waits without breakpoints, and has said what that costs."""
    with started(
        "-mm", "--json", *map(str, words), str(app.pid), cwd=cwd, prefix=WITHOUT_BREAKPOINTS
    ) as own:
        await_line(own, said)
        await_line(own, "waiting in process")
        yield own


def ended(own: subprocess.Popen[str]) -> str:
    """What it says from now to its end by Ctrl+C."""
    own.send_signal(signal.SIGINT)
    _, said = own.communicate(timeout=DEADLINE_S)
    return said


@pytest.mark.gate("gdb")
@pytest.mark.parametrize("version", VERSIONS)
def test_held_exactly_at_the_throw(version: str, tmp_path: Path) -> None:
    with running("Faults", version) as app:
        said = f"not permitted: {SAID}, an exception takes {COSTS[version]} ms"
        with waiting(app, "-e", 1, "-f", "*a rare*", cwd=tmp_path, said=said) as own:
            assert app.ask("caught inner") == "RareException"
            assert app.ask("caught rare") == "RareException"
            (report,) = reports(own)
        assert app.ask("caught rare") == "RareException"
        assert_well(app)
    told = report["exception"]
    assert (told["code"], told["chance"], told["type"]) == ("E0434352", 1, RARE)
    assert told["message"] == "a rare one"
    assert first_thread(report["path"]) == told["tid"]
    found = sections(report, version, "stacks", "exceptions")
    assert any(line.startswith(f"{told['tid']} ") and RARE in line for line in found["exceptions"])
    methods = [line for line in frames(found["stacks"], told["tid"]) if "ManagedMethod" in line]
    thrower = next(line for line in methods if "System.Runtime.EH." not in line)
    assert "<Caught>" in thrower


@pytest.mark.parametrize("version", VERSIONS)
def test_every_exception_is_seen_once(version: str, tmp_path: Path) -> None:
    """As the runtime tells of first chances itself (AppDomain.FirstChanceException)."""
    with running("Faults", version) as app:
        app.ask("chances")
        with waiting(app, "-e", 1, "-l", "-f", "nothing", cwd=tmp_path) as own:
            for kind in KINDS.split():
                app.ask(f"caught {kind}")
            told = app.ask("chances").split(",")
            said = ended(own)
        assert_well(app)
    lines = [line.partition(" exception in thread ")[2] for line in said.splitlines()]
    assert [line.split()[1].rpartition(".")[2] for line in lines if line] == told


def test_debug_output(tmp_path: Path) -> None:
    with running("Faults") as app:
        with waiting(app, "-l", "-f", "a l?g", cwd=tmp_path) as own:
            for word in ("say trace", "caught rare", "say log"):
                app.ask(word)
            out, said = own.communicate(timeout=DEADLINE_S)
        assert own.returncode == 0, said
        assert_well(app)
    assert '"trigger": "output"' in out
    at = [said.index(text) for text in (": a trace\n", 'RareException ("a rare one")', ": a log\n")]
    assert at == sorted(at)


def test_six_threads_throw_on_when_it_lets_go(tmp_path: Path) -> None:
    """A thread that reports its event too late stops all: it is freed."""
    with running("Faults") as app:
        assert app.ask("many 6") == "throwing"
        for _ in range(3):
            with waiting(app, "-e", 1, "--type", RARE, cwd=tmp_path) as own:
                assert app.ask("caught derived") == "VeryRareException"
                (report,) = reports(own)
            assert report["exception"]["type"] == "Faults.VeryRareException"
            thrown = int(app.ask("thrown"))
            while int(app.ask("thrown")) < thrown + 100:
                pass
        assert_well(app)


def test_none_is_missed_or_counted_twice(tmp_path: Path) -> None:
    with running("Faults") as app:
        with waiting(app, "-e", 1, "-f", "no such text", cwd=tmp_path) as own:
            app.ask("rate 300")
            assert "exceptions thrown meanwhile: 300\n" in ended(own)
        assert_well(app)


@pytest.mark.parametrize("version", VERSIONS)
def test_killed_while_six_threads_throw(version: str, tmp_path: Path) -> None:
    """A watchdog frees it; `python -m tests.support.waiting_kills` does this as often as wanted."""
    with wait_killer(tmp_path, seed=7, runtime=version, without_breakpoints=True) as killer:
        killer.play()
        killer.play(DEBUGGER)
        killer.play(DEBUGGER, MINIDUMPER)


def test_why_there_can_be_no_debugger(tmp_path: Path) -> None:
    with running("Faults", env={"DOTNET_EnableDiagnostics": "0"}) as app:
        words = ("-mm", "-e", "1", str(app.pid))
        done = minidumper(*words, cwd=tmp_path, prefix=WITHOUT_BREAKPOINTS)
        assert_well(app)
    assert done.returncode == 1
    assert "no hardware breakpoint can be set: Operation not permitted; " in done.stderr
    assert "cannot have a debugger: its runtime listens to none" in done.stderr
    assert "CAP_PERFMON, and a seccomp profile that allows it" in done.stderr
