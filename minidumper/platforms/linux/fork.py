"""Make a stopped process fork through one of its own threads, and hold the copy.

Each step leaves the target such that our death harms nothing: see `sigchain`.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from ...errors import CaptureError, StopTimeoutError, TargetExitedError
from ...target import VmRegion
from . import libc
from .forkchoice import Candidate, candidates
from .headroom import STAGE
from .ptrace import Tracer, is_dead, signals_held
from .sigchain import ALL_SIGNALS, ERESTART, Chain, Gadgets, SavedThread, fork_chain, reap_chain
from .sigframe import fpu_area

FORK_TIMEOUT_S = 30.0
"""Seconds that the fork of a stopped process may take; 100 GB in 4 KB pages take about two."""

_SYSCALL_STOP = signal.SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD, ptrace(2)
_OPTIONS = libc.PTRACE_O_TRACESYSGOOD | libc.PTRACE_O_TRACECLONE
_ENDED = 0  # a wait status
_POLL_S = 50e-6
_LONGEST_POLL_S = 1e-3

_Result = TypeVar("_Result")


class Held(NamedTuple):
    """A stopped process: `memory` is a writable descriptor of its memory."""

    tracer: Tracer
    regions: Sequence[VmRegion]
    memory: int
    gadgets: Gadgets


def fork_held(process: Held) -> int:
    """The pid of a copy of a stopped process: born stopped, without descriptors, traced by us.

    All threads are stopped before and after. The copy ends by itself when we do.

    Raises:
        CaptureError: no thread can be sent, or the system denies the fork; all is as before.
        StopTimeoutError: it took longer than FORK_TIMEOUT_S; the threads run again.
        TargetExitedError: the process ended meanwhile.
    """
    area = fpu_area()
    return _send(process, lambda thread: fork_chain(process.gadgets, thread, area), _Run.fork)


def reap_held(process: Held, child: int) -> None:
    """Make a stopped process wait for its dead child, a pid of its own namespace.

    Raises:
        CaptureError, StopTimeoutError, TargetExitedError: as `fork_held`.
    """
    area = fpu_area()
    _send(process, lambda thread: reap_chain(process.gadgets, thread, area, child), _Run.reap)


def end(child: int) -> None:
    """Kill a child that we trace, and take its end as its tracer; its parent may have to, too."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, libc.WALL)


def _send(
    process: Held, build: Callable[[SavedThread], Chain], run: Callable[[_Run], _Result]
) -> _Result:
    """Send the best thread through a chain; the next one where a signal is in the way."""
    reasons: list[str] = []
    try:
        for candidate in candidates(
            process.tracer, process.regions, process.memory, fpu_area(), build, reasons
        ):
            with signals_held():
                return run(_Run(process, candidate))
    except ProcessLookupError:  # ptrace: killed while we held it
        raise _ended(process.tracer.pid) from None
    raise CaptureError(
        f"no thread of process {process.tracer.pid} can be sent to fork: {'; '.join(reasons)}",
        stage=STAGE,
    )


def _ended(pid: int) -> TargetExitedError:
    return TargetExitedError(f"process {pid} ended while it was made to fork", pid=pid)


def _wait(tid: int, deadline: float) -> int:
    """The status of the next thing that happens to a thread that we trace."""
    pause = _POLL_S
    while True:
        dead = is_dead(tid)
        waited, status = os.waitpid(tid, libc.WALL | os.WNOHANG)
        if waited:
            return status
        if dead:  # a main thread whose end is told only after that of all others
            return _ENDED
        if time.monotonic() > deadline:
            raise StopTimeoutError(
                f"the fork of the target took longer than {FORK_TIMEOUT_S:g} s", stage=STAGE
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_POLL_S)


class _Run:
    """A thread on its way through a chain, with the children that it makes there.

    A thread may be let go at any of its stops: the chain runs to its end by itself.
    """

    def __init__(self, process: Held, candidate: Candidate) -> None:
        self._tracer = process.tracer
        self._memory = process.memory
        self._tid, self._chain = candidate
        self._children: list[int] = []
        self._running = False
        self._done = False
        self._deadline = time.monotonic() + FORK_TIMEOUT_S

    def reap(self) -> None:
        """Through the chain that waits for a dead child."""
        with self._sent():
            self._finish()

    def fork(self) -> int:
        """Through the chain that forks; returns the pid of the copy."""
        with self._sent():
            result = self._advance(self._chain.first_call)
            while result in ERESTART:
                result = self._advance(self._chain.first_call)
            copy = self._hand_over() if result > 0 else 0
            self._finish()
            if not copy:
                reason = os.strerror(-result) if result < 0 else "its child was denied one"
                raise CaptureError(f"the system denied the target a fork: {reason}", stage=STAGE)
        return copy

    @contextmanager
    def _sent(self) -> Iterator[None]:
        """The thread in its chain; it and its children are let go where anything fails."""
        libc.ptrace(libc.PTRACE_SETOPTIONS, self._tid, 0, _OPTIONS)
        data = self._chain.data
        if os.pwrite(self._memory, data, self._chain.address) != len(data):
            raise CaptureError(f"the stack of thread {self._tid} cannot be written", stage=STAGE)
        libc.set_regset(self._tid, libc.NT_PRSTATUS, self._chain.entry)
        try:
            # A handler must not run first: it might wait for threads that we hold. From here on
            # the end of the chain gives the thread its own mask back.
            libc.set_signal_mask(self._tid, ALL_SIGNALS)
            yield
        except BaseException:
            with suppress(ProcessLookupError):  # killed by someone else
                self._let_go()
            raise

    def _finish(self) -> None:
        """To the end of the chain: the thread is stopped and has all that it had."""
        self._advance(self._chain.final)
        self._done = True
        libc.ptrace(libc.PTRACE_SETOPTIONS, self._tid, 0, 0)

    def _advance(self, place: tuple[int, int]) -> int:
        """Run to the system call that ends at `place`; returns its result."""
        pending = 0
        while True:
            status = self._step(pending)
            pending = 0
            event, stop = status >> 16, os.WSTOPSIG(status)
            if event == libc.PTRACE_EVENT_CLONE:
                self._children.append(libc.get_event_message(self._tid))
            elif event:
                continue  # a group stop begins or ends; it takes hold when the thread is let go
            elif stop == _SYSCALL_STOP:
                info = libc.get_syscall_info(self._tid)
                at = (info.instruction_pointer, info.stack_pointer)
                if info.op == libc.PTRACE_SYSCALL_INFO_EXIT and at == place:
                    return int(info.result)
            else:
                pending = stop  # SIGSTOP: all that can be blocked is

    def _step(self, pending: int) -> int:
        """To the thread's next stop, with a signal to take."""
        if not self._running:
            libc.ptrace(libc.PTRACE_SYSCALL, self._tid, 0, pending)
            self._running = True
        status = _wait(self._tid, self._deadline)
        self._running = False
        if not os.WIFSTOPPED(status):
            raise _ended(self._tracer.pid)
        return status

    def _hand_over(self) -> int:
        """Let the first child make the second and end; returns the second, 0 where it was denied.

        The second is stopped and stays so: its own chain is to exit.
        """
        (first,) = self._children
        status = _wait(first, self._deadline)  # born
        while os.WIFSTOPPED(status):
            event, stop = status >> 16, os.WSTOPSIG(status)
            if event == libc.PTRACE_EVENT_CLONE:
                self._children.append(libc.get_event_message(first))
            libc.ptrace(libc.PTRACE_CONT, first, 0, 0 if event else stop)
            status = _wait(first, self._deadline)
        self._children.remove(first)
        if not self._children:
            return 0
        second = self._children[0]
        if os.WIFSTOPPED(_wait(second, self._deadline)):
            return second
        self._children.clear()
        return 0

    def _let_go(self) -> None:
        """End the children; the thread runs on by itself."""
        for child in self._children:
            with suppress(ProcessLookupError, ChildProcessError):
                end(child)
        if self._running:
            # Still in the kernel: it may wait for a thread that we hold (userfaultfd(2)).
            self._tracer.signals.pop(self._tid, None)
            self._tracer.release()
            self._deadline = math.inf
            status = self._step(0)
            if status >> 16 == libc.PTRACE_EVENT_CLONE:
                end(libc.get_event_message(self._tid))
        if not self._done:
            self._tracer.signals.pop(self._tid, None)  # `release` has no business with it
            libc.ptrace(libc.PTRACE_DETACH, self._tid)
