"""Stop all threads of a process with ptrace(2), read their registers, let them go.

Every call must come from the OS thread that seized: ptrace belongs to a thread, not a process.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ...errors import StopTimeoutError, TargetExitedError
from ...plan import CaptureWarning
from . import libc

STOP_TIMEOUT_S = 5.0
"""Seconds that one thread may take to stop; a thread in vfork(2) waits for its child's exec."""

RELEASE_TIMEOUT_S = 1.0
"""Seconds that `release` waits for a thread whose stop is still under way."""

_POLL_S = 50e-6
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep Ctrl+C and friends from landing between two halves of one step."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_dead(tid: int) -> bool:
    """Whether a thread is a zombie or gone."""
    try:
        with open(f"/proc/{tid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in (b"Z", b"X")


class Keeper(Protocol):
    """Who can hold the threads of a process: a Tracer for once, a guardian while we wait."""

    signals: dict[int, int]
    warnings: list[CaptureWarning]
    first: int | None

    def stop(self) -> None: ...

    def release(self) -> None: ...

    def regset(self, tid: int, kind: int, max_size: int) -> bytes: ...

    def siginfo(self, tid: int) -> bytes: ...


class Tracer:
    """Holds the threads of one process stopped, from `stop()` to `release()`.

    Threads are seized, not attached: if we die, the kernel lets them all go (ptrace(2)).
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: dict[int, int] = {}
        """tid of every held thread: the signal that it was about to take, else 0."""
        self.warnings: list[CaptureWarning] = []
        self.first: int | None = None
        """The thread that readers are to look at first; None for the main thread."""

    def stop(self) -> None:
        """Seize and stop every thread; the list is read again until nothing new is on it.

        Raises:
            OSError: the system forbids it (EPERM).
            TargetExitedError: the process ended meanwhile.
            StopTimeoutError: a thread did not stop in time.
        """
        seen: set[int] = set()
        while True:
            new = sorted(set(self._list_threads()) - seen)
            if not new:
                break
            seen.update(new)
            with signals_held():
                seized = [tid for tid in new if self._seize(tid)]
            for tid in seized:
                self._wait_stopped(tid)
        if not self.signals:
            raise TargetExitedError(f"process {self.pid} ended while it was being stopped")

    def release(self) -> None:
        """Let every held thread run on, with the signal it was about to take."""
        with signals_held():
            # The main thread last: its end can be waited for once the other threads' has been.
            for tid in sorted(self.signals, key=self.pid.__eq__):
                pending = self.signals[tid]
                # ESRCH: killed while it was held, or not stopped yet (then it has to be first).
                if not self._detach(tid, pending) and self._poll_stopped(tid, RELEASE_TIMEOUT_S):
                    self._detach(tid, self.signals[tid])
            self.signals.clear()

    def regset(self, tid: int, kind: int, max_size: int) -> bytes:
        """A register set of a held thread; see `libc.get_regset`."""
        return libc.get_regset(tid, kind, max_size)

    def siginfo(self, tid: int) -> bytes:
        """The siginfo_t of the signal that a held thread is about to take."""
        return libc.get_siginfo(tid)

    def _detach(self, tid: int, pending: int) -> bool:
        try:
            libc.ptrace(libc.PTRACE_DETACH, tid, 0, pending)
        except ProcessLookupError:
            return False
        return True

    def _list_threads(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir(f"/proc/{self.pid}/task")]
        except FileNotFoundError:
            raise TargetExitedError(
                f"process {self.pid} ended while it was being stopped"
            ) from None

    def _seize(self, tid: int) -> bool:
        try:
            libc.ptrace(libc.PTRACE_SEIZE, tid)
            self.signals[tid] = 0
            libc.ptrace(libc.PTRACE_INTERRUPT, tid)
        except OSError as err:
            if err.errno == errno.ESRCH or is_dead(tid):
                self.signals.pop(tid, None)
                self._note_gone(tid)
                return False
            raise
        return True

    def _note_gone(self, tid: int) -> None:
        self.warnings.append(
            CaptureWarning("threads", f"thread {tid} ended while stopping", tid=tid)
        )

    def _wait_stopped(self, tid: int) -> None:
        status = self._poll_stopped(tid, STOP_TIMEOUT_S)
        if status is None:
            raise StopTimeoutError(
                f"thread {tid} of process {self.pid} did not stop within {STOP_TIMEOUT_S:g} s",
                stage="stop",
                hint="it may wait in the kernel (vfork, a stuck disk) or be frozen (docker pause): "
                "try again",
            )
        if not os.WIFSTOPPED(status):
            del self.signals[tid]
            if tid == self.pid:
                raise TargetExitedError(f"process {self.pid} ended while it was being stopped")
            self._note_gone(tid)

    def _poll_stopped(self, tid: int, timeout_s: float) -> int | None:
        """The wait status of a thread once it stops or ends; None when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            dead = is_dead(tid)
            try:
                waited, status = os.waitpid(tid, libc.WALL | os.WNOHANG)
            except ChildProcessError:  # ended, and reaped by its own process
                return 0
            if waited:
                break
            if dead:  # a main thread whose end is told only after that of all others
                return 0
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)
        if os.WIFSTOPPED(status) and status >> 16 == 0:
            # At a signal: it is handed over when the thread is let go.
            self.signals[tid] = os.WSTOPSIG(status)
        return status
