"""The second way on Linux, as the runtime's debugger: a seccomp filter forbids breakpoints."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from minidumper import Monitor
from minidumper.plan import DumpMode
from minidumper.platforms.linux import libc
from minidumper.platforms.linux.debugtransport import fifos
from tests.support import gates, processes, runtimes, seccomp
from tests.support.commands import minidumper, started
from tests.support.targets import Running, command, running
from tests.support.waiting import (
    BREAKPOINTS,
    Taken,
    assert_well,
    await_line,
    begun,
    first_thread,
    frames,
    launched,
    reports,
    sections,
    tell,
)
from tests.support.waiting import DEBUGGER as DEBUGGING
from tests.support.waiting_kills import DEBUGGER, MINIDUMPER, WATCHDOG, pid_of, wait_killer

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

VERSIONS = ["10.0.14", "9.0.22", pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes"))]
RARE = "Faults.RareException"
DEADLINE_S = 60
WITHOUT_BREAKPOINTS = seccomp.prefix(seccomp.PERF_EVENT_OPEN)
SAID = "minidumper is the process's debugger"
COSTS = {"10.0.14": "3 to 4", "9.0.22": "13 to 16", "8.0.4": "4 to 15"}


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


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stack_overflow_ends_it(version: str, tmp_path: Path) -> None:
    """On .NET 9 it would hang: the stack that it is told on is too small for a debugger."""
    with running("Faults", version) as app:
        with waiting(app, "-e", 1, "-f", "*StackOverflow*", cwd=tmp_path) as own:
            tell(app, "end overflow")
            (report,) = reports(own)
        ended = app.process.wait(DEADLINE_S)
    assert ended == (-signal.SIGSEGV if version == "9.0.22" else -signal.SIGABRT)
    told = report["exception"]
    assert (told["type"], told["chance"]) == ("System.StackOverflowException", 2)
    found = sections(report, version, "stacks")
    methods = [line for line in frames(found["stacks"], told["tid"]) if "ManagedMethod" in line]
    assert "Faults.Program.Deeper" in methods[0]


def test_none_is_missed_or_counted_twice(tmp_path: Path) -> None:
    with running("Faults") as app:
        with waiting(app, "-e", 1, "-f", "no such text", cwd=tmp_path) as own:
            app.ask("rate 300")
            assert "exceptions thrown in all: 300\n" in ended(own)
        assert_well(app)


@pytest.mark.parametrize("version", VERSIONS)
def test_killed_while_six_threads_throw(version: str, tmp_path: Path) -> None:
    """A watchdog frees it; `python -m tests.support.waiting_kills` does this as often as wanted."""
    with wait_killer(tmp_path, seed=7, runtime=version, without_breakpoints=True) as killer:
        killer.play()
        killer.play(DEBUGGER)
        killer.play(DEBUGGER, MINIDUMPER)


def test_its_watchdog_outlives_what_ends_the_others(tmp_path: Path) -> None:
    with running("Faults") as app:
        with waiting(app, "-e", 1, "-f", "nothing", cwd=tmp_path) as own:
            watchdog = psutil.Process(pid_of(WATCHDOG, own.pid))
            assert os.getsid(watchdog.pid) == watchdog.pid
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                watchdog.send_signal(number)
            for victim in (DEBUGGER, MINIDUMPER):
                os.kill(pid_of(victim, own.pid), signal.SIGKILL)
            assert app.ask("caught rare") == "RareException"
            psutil.wait_procs([watchdog])
        assert_well(app)


def test_its_watchdog_killed_with_it(tmp_path: Path) -> None:
    """The process hangs at its next exception: the doctor finds and frees it, and the next wait."""
    with running("Faults") as app:
        kill_all(app, tmp_path)
        tell(app, "caught rare")
        verdict = json.loads(minidumper("doctor", "--json", app.pid, cwd=tmp_path).stdout)
        (gate,) = [gate for gate in verdict if gate["gate"] == "debugger"]
        assert (gate["state"], gate["blocks"]) == ("failed", False)
        assert gate["fixes"]["shell"] == f"minidumper doctor --rescue {app.pid}"
        freed = minidumper("doctor", "--rescue", app.pid, cwd=tmp_path)
        assert freed.stdout == f"process {app.pid} was stopped, and runs on\n"
        assert app.answer() == "RareException"
        kill_all(app, tmp_path)
        tell(app, "caught rare")
        said = "an earlier debugger had left the process stopped: it runs on"
        with waiting(app, "-e", 1, "--type", RARE, cwd=tmp_path, said=said) as own:
            assert app.answer() == "RareException"
            assert app.ask("caught derived") == "VeryRareException"
            (report,) = reports(own)
        assert_well(app)
    assert report["exception"]["type"] == "Faults.VeryRareException"


def kill_all(app: Running, cwd: Path) -> None:
    with waiting(app, "-e", 1, "-f", "nothing", cwd=cwd) as own:
        for pid in [pid_of(name, own.pid) for name in (WATCHDOG, DEBUGGER, MINIDUMPER)]:
            os.kill(pid, signal.SIGKILL)


def held_as_it_begins(own: subprocess.Popen[str], way: str) -> int:
    """The pid of a program whose runtime has begun: it waits for `own`, which is stopped."""
    pid = begun(own)
    while way == BREAKPOINTS and not fifos(pid):  # it passes others before
        pass
    own.send_signal(signal.SIGSTOP)
    while not fifos(pid) or "t" not in processes.state(pid):
        assert processes.state(pid) != "Z", "it ran to its end"
    return pid


@pytest.mark.parametrize("version", VERSIONS)
def test_launched_and_watched_from_the_first_exception_on(version: str, tmp_path: Path) -> None:
    with launched(version, tmp_path, DEBUGGING) as own:
        held_as_it_begins(own, DEBUGGING)
        own.send_signal(signal.SIGCONT)
        out, said = own.communicate(timeout=DEADLINE_S)
    assert own.returncode == 7, said
    assert f"{SAID}, an exception takes {COSTS[version]} ms\n" in said
    (report,) = json.loads(out[out.index("[") :])
    assert report["exception"]["type"] == "System.InvalidCastException"


@pytest.mark.parametrize(
    "way", [pytest.param(BREAKPOINTS, marks=pytest.mark.gate("perf-breakpoints")), DEBUGGING]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_is_killed_as_it_begins(number: int, way: str, tmp_path: Path) -> None:
    """Its end is seen while it is looked at, and told."""
    ends = ["-t"] if number == signal.SIGTERM else []
    with launched("10.0.14", tmp_path, way, *ends) as own:
        os.kill(held_as_it_begins(own, way), number)
        own.send_signal(signal.SIGCONT)
        out, said = own.communicate(timeout=DEADLINE_S)
    assert own.returncode == 128 + number, said
    assert ('"trigger": "exit"' in out) == bool(ends)
    assert ends or "Faults ended; 0 of 1 dumps taken" in said


def test_killed_as_the_program_begins(tmp_path: Path) -> None:
    with launched("10.0.14", tmp_path, DEBUGGING) as own:
        program = psutil.Process(held_as_it_begins(own, DEBUGGING))
        own.kill()
        psutil.wait_procs([program])
        assert own.stdout
        assert "InvalidCastException\n" in own.stdout.read()


def test_launched_without_its_debugger_interface(tmp_path: Path) -> None:
    with launched("10.0.14", tmp_path, DEBUGGING, DOTNET_EnableDiagnostics="0") as own:
        out, said = own.communicate(timeout=DEADLINE_S)
    assert own.returncode == 1, said
    assert "cannot have a debugger: its runtime listens to none" in said
    assert "InvalidCastException\n" in out


def test_refused_when_the_program_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where another tool has the processor's breakpoints: what was thrown before is missed."""
    descriptors = iter([os.open(os.devnull, os.O_RDONLY)])

    def once() -> int:
        try:
            return next(descriptors)
        except StopIteration:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    monkeypatch.setattr(libc, "open_breakpoint", once)
    words = tmp_path / "words"
    os.mkfifo(words)
    with open(os.open(words, os.O_RDWR), "w") as typed:
        program = ["sh", "-c", 'exec "$@" <words', "sh", *map(str, command("Faults", "10.0.14"))]
        monkeypatch.chdir(tmp_path)
        for name, value in runtimes.dotnet_environment("10.0.14").items():
            monkeypatch.setenv(name, value)
        monitor = Monitor(None, DumpMode.MINIMAL, launch=program)
        monitor.on_exception(type=RARE)
        caplog.set_level(logging.INFO, "minidumper")
        taken = Taken(monitor)
        taken.thread.start()
        while f"{SAID}, " not in caplog.text and taken.thread.is_alive():
            pass
        typed.write("caught rare\nend exit\n")
        typed.flush()
        taken.thread.join()
    assert taken.error is None
    assert "No space left on device: minidumper is" in caplog.text
    assert "; those before were not seen" in caplog.text
    assert [str(report.moment and report.moment.exception) for report in taken.reports] == [
        'E0434352.Faults.RareException ("a rare one")'
    ]
    assert monitor.launched
    assert monitor.launched.wait() == 7


def test_why_there_can_be_no_debugger(tmp_path: Path) -> None:
    with running("Faults", env={"DOTNET_EnableDiagnostics": "0"}) as app:
        words = ("-mm", "-e", "1", str(app.pid))
        done = minidumper(*words, cwd=tmp_path, prefix=WITHOUT_BREAKPOINTS)
        assert_well(app)
    assert done.returncode == 1
    assert "no hardware breakpoint can be set: Operation not permitted; " in done.stderr
    assert "cannot have a debugger: its runtime listens to none" in done.stderr
    assert "CAP_PERFMON, and a seccomp profile that allows it" in done.stderr
