"""What a process does while it is watched: it forks, becomes another program, loses threads."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from minidumper import Monitor, planning
from minidumper.platforms.linux.watcher import LinuxWatcher
from tests.support import gates
from tests.support.commands import ENVIRONMENT, PROGRAM, started
from tests.support.runtimes import dotnet_environment
from tests.support.targets import command, running
from tests.support.waiting import (
    DEADLINE_S,
    assert_rests,
    assert_well,
    await_line,
    reports,
    tell,
    watched,
    way_prefix,
)

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "embedded-host")

TIME = r"\d\d:\d\d:\d\d\.\d{6}"
VERSIONS = ["10.0.14", "9.0.22", pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes"))]


@contextmanager
def program(source: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that says "ready" and waits for a line."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_forks_and_threads_are_none_of_ours(tmp_path: Path) -> None:
    source = """
        import os, sys, threading
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(50):
            child = os.fork()
            if child == 0:
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
        sys.exit(5)
    """
    with program(source) as target:
        with started("-ma", "--json", "-t", target.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            target.communicate("go\n", timeout=DEADLINE_S)
            (report,) = reports(own)
        assert target.returncode == 5
    assert (report["pid"], report["trigger"]) == (target.pid, "exit")


def test_another_program_takes_its_place(tmp_path: Path) -> None:
    source = """
        import os, sys, threading
        print("ready", flush=True)
        sys.stdin.readline()
        os.execvp("sh", ["sh", "-c", "exit 9"])
    """
    with program(source) as target:
        with started("-ma", "--json", "-t", target.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            target.communicate("go\n", timeout=DEADLINE_S)
            (report,) = reports(own)
        assert target.returncode == 9
    assert (report["name"], report["trigger"]) == ("sh", "exit")


@pytest.mark.parametrize("number", [15, 10], ids=["SIGTERM", "SIGUSR1"])
def test_the_end_by_a_signal(number: int, tmp_path: Path) -> None:
    source = """
        import sys
        print("ready", flush=True)
        sys.stdin.readline()
    """
    with program(source) as target:
        with started("-ma", "--json", "-t", target.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            target.send_signal(number)
            (report,) = reports(own)
        assert target.wait(DEADLINE_S) == -number
    assert report["trigger"] == "exit"


@pytest.mark.gate("toolchain", "perf-breakpoints")
def test_all_that_happens_is_shown(way: str, tmp_path: Path) -> None:
    with running("Faults") as app:
        words = ("-mm", "-l", "-e", "-f", "*nobody*", app.pid)
        with started(*words, cwd=tmp_path, prefix=way_prefix(way)) as own:
            said = await_line(own, "waiting in process")
            app.ask("caught inner")
            app.ask("caught rethrow")
            app.ask("caught null")
            app.ask("caught dynamic")
            said += await_line(own, "loaded ")
            tell(app, "end unhandled")
            _, rest = own.communicate(timeout=DEADLINE_S)
    lines = (said + rest).splitlines()
    assert own.returncode == 0, lines
    for step in (r"thread \d+ began", r"process \d+ \(Faults\): \.NET 10\.0\.14, .*"):
        assert any(re.fullmatch(rf"minidumper: {TIME} {step}", line) for line in lines), step
    for text in ("outer", "nobody"):  # one that does not count, and one that does
        told = f': E0434352.Faults.RareException ("{text}"), because of System.FormatException '
        assert any(line.endswith(f'{told}("inside")') for line in lines), text
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.gate("toolchain", "perf-breakpoints")
@pytest.mark.parametrize("word", ["rate 5", "say trace"])
def test_between_two_dumps_nothing_comes_to_us(
    word: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes too early is dismissed where it is seen: a look of ours takes milliseconds."""
    with running("Faults") as app:
        monitor = Monitor(app.pid, "minimal", f"{tmp_path}/", count=2, interval_s=1)
        if word == "say trace":
            monitor.on_output("a trace")
        else:
            monitor.on_exception(1)
        assert_rests(app, monitor, word, LinuxWatcher, monkeypatch)
        assert_well(app)


@pytest.mark.gate("toolchain", "perf-breakpoints")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_program_of_dotnet_has_children_and_becomes_another(
    version: str, way: str, tmp_path: Path
) -> None:
    with running("Faults", version) as app:
        words = ("-ma", "--json", "-e", "1", "-f", "nothing", "-t", app.pid)
        with started(*words, cwd=tmp_path, prefix=way_prefix(way)) as own:
            await_line(own, "waiting in process")
            app.ask("caught rare")
            assert app.ask("child") == "3"
            assert app.ask("caught rare") == "RareException"
            tell(app, "end exec")
            (report,) = reports(own)
        assert app.process.wait(DEADLINE_S) == 9
    assert (report["pid"], report["name"], report["trigger"]) == (app.pid, "sh", "exit")


@pytest.mark.gate("toolchain", "perf-breakpoints")
@pytest.mark.parametrize("version", VERSIONS)
def test_debug_output_is_shown_and_waited_for(version: str, tmp_path: Path) -> None:
    with running("Faults", version) as app:
        with started("-mm", "--json", "-l", "-f", "a tr?ce", app.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            app.ask("say log")  # .NET itself keeps it from all but debuggers
            app.ask("say trace")
            out, said = own.communicate(timeout=DEADLINE_S)
        assert app.alive()
    (report,) = json.loads(out)
    assert (report["trigger"], report["line"]) == ("output", "a trace")
    assert f"output of thread {app.pid}: a trace\n" in said


@pytest.mark.gate("toolchain", "perf-breakpoints", "old-runtimes")
def test_debug_output_that_no_breakpoint_is_left_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The helpers, where they are watched, and exit(3) take all four."""
    monkeypatch.setattr(planning, "throw_site", lambda *_: None)
    with running("Faults", "8.0.4") as app:
        monitor = Monitor(app.pid, "minimal", f"{tmp_path}/", show=True)
        monitor.on_exit()
        with watched(monitor):
            pass
        assert_well(app)
    wanted = "debug output is not seen: the processor has no breakpoint left for it"
    assert wanted in caplog.messages


@pytest.mark.gate("toolchain")
def test_a_process_that_would_dump_itself_is_told(tmp_path: Path) -> None:
    with (
        running("Faults", env={"DOTNET_DbgEnableMiniDump": "1"}) as app,
        started("-mm", "-e", app.pid, cwd=tmp_path) as own,
    ):
        await_line(own, "is to run createdump at a crash (DOTNET_DbgEnableMiniDump)")
        own.kill()


@pytest.mark.gate("toolchain")
def test_ctrl_c_at_the_terminal_is_not_for_the_program(tmp_path: Path) -> None:
    """A shell runs it on a terminal of its own, and is there to read the terminal afterwards."""
    words = [str(word) for word in (*PROGRAM, "-mm", "-t", "-x", *command("Faults", "10.0.14"))]
    script = f'trap : INT; {shlex.join(words)}; echo "ended $?"; sleep 60'
    child, terminal = os.forkpty()
    if child == 0:
        os.chdir(tmp_path)
        os.execve("/bin/sh", ["sh", "-c", script], ENVIRONMENT | dotnet_environment("10.0.14"))
    try:
        pid = int(_await_text(terminal, "ready ").split()[-1])
        os.write(terminal, b"\x03")
        assert _await_text(terminal, "ended ").split()[-1] == "130"
        os.write(terminal, b"alive\n")
        assert _await_text(terminal, "alive\r\nalive")
        assert psutil.Process(pid).status() != psutil.STATUS_TRACING_STOP
        psutil.Process(pid).kill()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def test_interrupted_as_the_first_of_a_terminal(tmp_path: Path) -> None:
    """As by ssh -t: with it the terminal ends, and not what it launched."""
    words = [str(word) for word in (*PROGRAM, "-mm", "-t", "-x", "sleep", "60")]
    child, terminal = os.forkpty()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(words[0], words, ENVIRONMENT)
    try:
        said = _await_text(terminal, " runs sleep now")
        program = psutil.Process(int(said.rpartition("process ")[2].split()[0]))
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    finally:
        os.close(terminal)
    assert program.status() == psutil.STATUS_SLEEPING
    program.kill()


def _await_text(terminal: int, text: str) -> str:
    """What a terminal shows, up to the end of the line with a text."""
    said = ""
    while text not in said or not said.rpartition(text)[2].endswith("\n"):
        said += os.read(terminal, 1).decode()
    return said
