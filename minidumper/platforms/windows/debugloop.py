"""The loop of a debugger: one thread that attaches, takes each event, answers it, and detaches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from ctypes import byref

from ...errors import NativeCallError, StopTimeoutError, TargetExitedError
from . import debugapi, win32, wine
from .debugging import STOP_TIMEOUT_MS, has_exited

_ACCESS = (
    win32.PROCESS_CREATE_THREAD
    | win32.PROCESS_VM_OPERATION
    | win32.PROCESS_VM_READ
    | win32.PROCESS_VM_WRITE
    | win32.PROCESS_QUERY_INFORMATION
    | win32.PROCESS_SUSPEND_RESUME
    | win32.SYNCHRONIZE
)
"""What DebugBreakProcess wants, and we for a look whether the process has ended."""

Judge = Callable[[debugapi.DEBUG_EVENT], int]

_LOOK_MS = 50
"""Milliseconds between two looks whether the loop is to end."""


class DebugLoop:
    """Runs in a thread of its own: the system counts debugging by thread.

    The process stands still from each event until its answer. It runs on when we die.
    """

    def __init__(self, begin: Callable[[], int], *, stopped: bool = False) -> None:
        """Have `begin`, which may fail, make us the debugger of a process, whose pid it gives.

        With `stopped` the process is held at its first event until `release()`.
        """
        self.judge: Judge = lambda event: debugapi.DBG_CONTINUE
        """Called in the loop's thread for each event, gives the answer; may `hold()` before."""
        self.ended = False
        """Whether the process is gone."""
        self.error: Exception | None = None
        """Why the loop ended, where nobody asked it to."""
        self.held_since: float | None = None
        """Since when `hold()` keeps an event (time.monotonic)."""
        self._changed = threading.Condition()
        self._stops = stopped
        self._leaves = False
        self._parked = False
        self._resumed = False
        self._pid = self._handle = 0
        began: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(begin, began), name="minidumper-debugger", daemon=True
        )
        self._thread.start()
        began.result()

    @property
    def leaves(self) -> bool:
        """Whether the loop is to end."""
        return self._leaves

    def hold(self) -> None:
        """Leave the event that is judged unanswered until `resume()`; for the loop's thread."""
        self._resumed = False
        self.held_since = time.monotonic()
        self._park(lambda: self._resumed)
        self.held_since = None

    def resume(self) -> None:
        """Go on from `hold()`."""
        with self._changed:
            self._resumed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Hold the process at whatever event comes, at one of ours if no other does.

        Raises:
            TargetExitedError: it ended meanwhile.
            StopTimeoutError: no event came in time.
        """
        with self._changed:
            self._stops = True
            if self._parked:
                return
        with suppress(NativeCallError):  # it has ended, which is told below
            debugapi.DebugBreakProcess(self._handle)
        timeout_s = STOP_TIMEOUT_MS / 1000
        with self._changed:
            self._changed.wait_for(lambda: self._parked or self._over, timeout_s)
            if self._parked:
                return
            self._stops = False
        if self.error:
            raise self.error
        if self.ended or has_exited(self._handle):
            raise TargetExitedError(f"process {self._pid} ended", pid=self._pid)
        raise StopTimeoutError(
            f"process {self._pid} did not stop within {timeout_s:.0f} s", stage="stop"
        )

    def release(self) -> None:
        """Let the process run on, unless `hold()` keeps it."""
        with self._changed:
            self._stops = False
            self._changed.notify_all()

    def close(self) -> None:
        """Answer the event that is held, and be the process's debugger no longer."""
        with self._changed:
            self._leaves = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def _over(self) -> bool:
        return self.ended or self.error is not None

    def _run(self, begin: Callable[[], int], began: Future[None]) -> None:
        try:
            self._pid = begin()
            self._handle = win32.OpenProcess(_ACCESS, False, self._pid)
        except BaseException as err:
            began.set_exception(err)
            return
        began.set_result(None)
        event = debugapi.DEBUG_EVENT()
        try:
            while not self._leaves and not self.ended:
                if _next(event):
                    self._answer(event)
        except Exception as err:  # who waits for us is told
            self.error = err
        finally:
            self._leaves = True
            self._detach(event)

    def _answer(self, event: debugapi.DEBUG_EVENT) -> None:
        answer = debugapi.DBG_EXCEPTION_NOT_HANDLED
        try:
            if self._stops:
                self._park(lambda: not self._stops)
            answer = self.judge(event)
        finally:  # else the process would stand still for ever
            _close_file(event)
            debugapi.ContinueDebugEvent(event.dwProcessId, event.dwThreadId, answer)
        self.ended = event.dwDebugEventCode == debugapi.EXIT_PROCESS_DEBUG_EVENT

    def _park(self, until: Callable[[], bool]) -> None:
        with self._changed:
            self._parked = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: until() or self._leaves)
            self._parked = False

    def _detach(self, event: debugapi.DEBUG_EVENT) -> None:
        try:
            if wine.is_wine() and not self.ended:
                self._detach_quietly(event)
            elif not self.ended:
                debugapi.DebugActiveProcessStop(self._pid)
        except Exception as err:  # as above
            if not has_exited(self._handle):
                self.error = self.error or err
        with self._changed:
            self._changed.notify_all()
        win32.CloseHandle(self._handle)

    def _detach_quietly(self, event: debugapi.DEBUG_EVENT) -> None:
        with wine.suspended(self._handle):
            try:
                while not self.ended and _next(event):
                    self._answer(event)
            finally:
                debugapi.DebugActiveProcessStop(self._pid)


def _next(event: debugapi.DEBUG_EVENT) -> bool:
    """Whether an event came within a short time."""
    wait = debugapi.WaitForDebugEventEx  # tells Unicode debug output as such; since Windows 10
    try:
        (wait if wait.exists else debugapi.WaitForDebugEvent)(byref(event), _LOOK_MS)
    except NativeCallError as err:
        if err.code == win32.ERROR_SEM_TIMEOUT:
            return False
        raise
    return True


def _close_file(event: debugapi.DEBUG_EVENT) -> None:
    """Close the handle that two kinds of events bring along."""
    handle = 0
    if event.dwDebugEventCode == debugapi.CREATE_PROCESS_DEBUG_EVENT:
        handle = event.u.CreateProcessInfo.hFile
    elif event.dwDebugEventCode == debugapi.LOAD_DLL_DEBUG_EVENT:
        handle = event.u.LoadDll.hFile
    if handle:
        win32.CloseHandle(handle)
