"""A snapshot harms nothing, whoever is killed at whichever step (support/snapshot_killer.py).

MINIDUMPER_KILL_ROUNDS says how often each step is tried, by default 20.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys

import pytest

from tests.support import gates, paths, snapshots
from tests.support.targets import running

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.platforms.linux.process import LinuxProcess
from minidumper.platforms.linux.snapshot import prepare_snapshot
from tests.support.snapshot_killer import DONE, ENDED, UNTOUCHED, attempt, check, origin_of, send

pytestmark = pytest.mark.gate("ptrace")

ROUNDS = os.environ.get("MINIDUMPER_KILL_ROUNDS", "20")


def kill_at_every_step(pid: int) -> None:
    """In a program of its own, whose children are cheap."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.snapshot_killer", str(pid), ROUNDS],
        cwd=paths.CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 20 * int(ROUNDS), done.stdout


@pytest.mark.gate("gcc")
@pytest.mark.parametrize(
    "kinds",
    [
        "input spin timed masked block tick",  # the main thread, in read(2), is sent to fork
        "spin spin signals",  # one that runs, while signals arrive
        "masked timed",  # one in ppoll(2), with a signal mask of its own for the call
        "timed timed",  # one in nanosleep(2) or poll(2), as there is no other
    ],
)
def test_our_death_harms_no_thread(kinds: str) -> None:
    with snapshots.subject(*kinds.split()) as program:
        kill_at_every_step(program.pid)
        program.finish()


@pytest.mark.gate("toolchain")
def test_our_death_harms_no_runtime() -> None:
    with running("Thrower") as app:
        kill_at_every_step(app.pid)
        before = int(app.ask("thrown")), int(app.ask("rounds"))
        while int(app.ask("thrown")) == before[0] or int(app.ask("rounds")) == before[1]:
            continue  # both threads go on
        assert app.ask("wrong") == "nothing"


@pytest.mark.gate("gcc")
@pytest.mark.parametrize("kinds", ["input timed spin", "spin spin"])
def test_the_target_may_be_killed_at_every_step(kinds: str) -> None:
    for last in itertools.count():
        with snapshots.subject(*kinds.split()) as program, LinuxProcess(program.pid) as process:
            gadgets = prepare_snapshot(process)
            outcome = attempt(process, gadgets, last, send(program.pid, signal.SIGKILL))
            if outcome == UNTOUCHED:
                program.finish()
                break
            assert outcome in (DONE, ENDED), last
            assert program.process.wait() == -signal.SIGKILL
    assert last >= 20


@pytest.mark.gate("gcc")
def test_the_target_may_be_stopped_at_every_step() -> None:
    with snapshots.subject("input", "timed", "spin") as program:
        origin = origin_of(program.pid)
        with LinuxProcess(program.pid) as process:
            gadgets = prepare_snapshot(process)
            for last in itertools.count():
                outcome = attempt(process, gadgets, last, send(program.pid, signal.SIGSTOP))
                assert outcome in (DONE, UNTOUCHED), last
                if outcome == UNTOUCHED:
                    break
                check(program.pid, origin, states="T")
                program.process.send_signal(signal.SIGCONT)
                check(program.pid, origin)
        assert last >= 20
        program.finish()
