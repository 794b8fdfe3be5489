"""Snapshots of a process, each by a program that is killed (-9) one step later than the last.

python -m tests.support.snapshot_killer PID ROUNDS

A round kills before the first step, before the second, and so on until a snapshot lives through all
its steps. A step is a call that changes something or waits: ptrace, a write, a wait, a signal.
After each round nothing of it may be left on the target. Prints how many were killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidumper.errors import CaptureError, TargetExitedError
from minidumper.platforms.linux import libc, snapshot
from minidumper.platforms.linux.process import LinuxProcess
from minidumper.platforms.linux.sigchain import Gadgets

SETTLE_S = 20.0
"""Seconds in which the threads that were let go must have run their chains to the end."""

_POLL_S = 0.002
_READS = {
    libc.PTRACE_GETREGSET,
    libc.PTRACE_GETSIGINFO,
    libc.PTRACE_GETSIGMASK,
    libc.PTRACE_GETEVENTMSG,
    libc.PTRACE_GET_SYSCALL_INFO,
    libc.PTRACE_GET_RSEQ_CONFIGURATION,
}
_kill = os.kill

UNTOUCHED, DONE, ENDED, REFUSED, FAILED = range(5)
"""How a snapshot went: no step of that number, or done in spite of what happened at it, or the
target was found to have ended, or no thread could be sent just then, or something went wrong."""


class Steps:
    """Counts the steps of this process; `act` is called before that of number `last`."""

    def __init__(self, last: int, act: Callable[[], None]) -> None:
        self._left = last
        self._act = act

    @property
    def reached(self) -> bool:
        """Whether `act` was called."""
        return self._left < 0

    def install(self) -> None:
        """Count from now on."""
        ptrace = libc.ptrace.__globals__["_ptrace"]

        def counted(request: int, *arguments: int) -> Any:
            if request not in _READS:
                self._count()
            return ptrace(request, *arguments)

        libc.ptrace.__globals__["_ptrace"] = counted
        for name in ("kill", "waitpid", "pwrite", "write", "open", "memfd_create"):
            setattr(os, name, self._before(getattr(os, name)))

    def _before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self._count()
            return function(*arguments, **named)

        return counted

    def _count(self) -> None:
        self._left -= 1
        if self._left == -1:
            self._act()


def send(pid: int, number: int) -> Callable[[], None]:
    """An act: a signal for a process."""
    return lambda: _kill(pid, number)


def die() -> None:
    """An act: our own death."""
    _kill(os.getpid(), signal.SIGKILL)


def attempt(process: LinuxProcess, gadgets: Gadgets, last: int, act: Callable[[], None]) -> int:
    """Have a child take a snapshot and let it go: how it went, or minus what signal ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcome = FAILED
    try:
        steps = Steps(last, act)
        steps.install()
        with process.stopped():
            taken = snapshot.take_snapshot(process, gadgets)
        with taken:
            readable = next(region for region in taken.regions() if region.readable)
            taken.memory.read(readable.start, 4096)
        warnings = [w for w in taken.warnings if w.stage != "threads"]  # those may end
        for warning in warnings:
            print(warning, file=sys.stderr)
        if not warnings:
            outcome = DONE if steps.reached else UNTOUCHED
    except TargetExitedError:
        outcome = ENDED
    except CaptureError as err:
        # Each is in a timed call since before an earlier stop, or has a signal to take.
        outcome = REFUSED if "no thread" in str(err) else FAILED
        print(f"step {last}: {err!r}", file=sys.stderr)
    except BaseException as err:
        print(f"step {last}: {err!r}", file=sys.stderr)
    os._exit(outcome)


def origin_of(pid: int) -> bytes:
    """What a process has in common with its copies, and with no other run of the same program.

    The auxiliary vector has addresses that the kernel chose at random for this run.
    """
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "auxv"))


def scars(pid: int, origin: bytes, states: str) -> list[str]:
    """What is not as it should be with a process that nobody traces."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if fields["State"][0] not in states:
            found.append(f"thread {task.name} is {fields['State']}")
        if fields["TracerPid"] != "0":
            found.append(f"thread {task.name} is traced")
        if children := (task / "children").read_text().split():
            found.append(f"children {children}")
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if int(name) != pid and origin_of(int(name)) == origin:
                found.append(f"process {name} is left")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def check(pid: int, origin: bytes, states: str = "RSD") -> None:
    """Wait until all is as it should be, each thread in one of these states of proc(5).

    Raises:
        SystemExit: it does not become so.
    """
    deadline = time.monotonic() + SETTLE_S
    while found := scars(pid, origin, states):
        if time.monotonic() > deadline:
            raise SystemExit(f"process {pid}: {'; '.join(found)}")
        time.sleep(_POLL_S)


def main(pid: int, rounds: int) -> None:
    """Kill at every step, so many times."""
    origin = origin_of(pid)
    kills = 0
    with LinuxProcess(pid) as process:
        gadgets = snapshot.prepare_snapshot(process)
        for _ in range(rounds):
            last = 0
            while (outcome := attempt(process, gadgets, last, die)) in (REFUSED, -signal.SIGKILL):
                last += outcome != REFUSED
            if outcome != UNTOUCHED:
                raise SystemExit(f"step {last}: outcome {outcome}")
            kills += last
            check(pid, origin)
    print(f"{kills} kills")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
