"""A program launched in a session and on a pseudo terminal of its own (-c)."""

from __future__ import annotations

import re
import signal
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.support import gates, processes
from tests.support.commands import started
from tests.support.waiting import await_line, launch

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "embedded-host")

SOURCE = """
    import os, sys
    print("session", os.getsid(0) == os.getpid(), "on", os.ttyname(1), flush=True)
    print("foreground", os.tcgetpgrp(0) == os.getpgrp(), *os.get_terminal_size(), flush=True)
    for line in sys.stdin:
        print("said", line.strip(), flush=True)
    sys.exit(4)
"""
PROGRAM = (sys.executable, "-c", textwrap.dedent(SOURCE))


def has_word(process: psutil.Process, word: str) -> bool:
    return any(word in each for each in process.cmdline())


def test_its_session_terminal_and_exit_code_are_its_own(tmp_path: Path) -> None:
    done = launch("-ma", "-t", "-c", program=PROGRAM, cwd=tmp_path, typed="one\ntwo\n")
    assert done.returncode == 4, done.stderr
    told = re.search(r"process (\d+) has the terminal (/dev/pts/\d+)", done.stderr)
    assert told
    own, foreground, one, two, *_ = done.stdout.splitlines()
    assert own == f"session True on {told[2]}"
    assert foreground == "foreground True 80 24"
    assert [one, two] == ["said one", "said two"]
    assert len(list(tmp_path.iterdir())) == 1


def test_it_runs_on_when_minidumper_is_killed(tmp_path: Path) -> None:
    """Nobody hangs its terminal up, and what it writes from then on keeps nobody waiting."""
    source = """
        import signal, sys
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        print("ready", flush=True)
        signal.sigwait({signal.SIGUSR1})
        for _ in range(10_000):
            print("x" * 100)
        sys.exit(6)
    """
    program = (sys.executable, "-c", textwrap.dedent(source))
    with started("-ma", "-t", "-c", "-x", *program, cwd=tmp_path) as own:
        await_line(own, "has the terminal")
        assert own.stdout
        while own.stdout.readline() != "ready\n":
            pass
        (target,) = (
            each for each in psutil.Process(own.pid).children() if has_word(each, "SIG_BLOCK")
        )
        own.kill()
    assert target.is_running()
    target.send_signal(signal.SIGUSR1)
    assert target.wait(60) == 6


def test_killed_before_it_begins_nothing_is_left(tmp_path: Path) -> None:
    before = processes.descendants()
    with started("-ma", "-t", "-x", "touch", tmp_path / "begun", cwd=tmp_path) as own:
        while not any(has_word(each, "read _") for each in psutil.Process(own.pid).children()):
            pass
        own.kill()
    _, alive = psutil.wait_procs(processes.descendants() - before, timeout=60)
    assert not alive
    assert not list(tmp_path.iterdir())
