"""Hold a process as its debugger: the hold ends when it is released, or when we die."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_int32

from ...errors import (
    AccessDeniedError,
    AlreadyTracedError,
    NativeCallError,
    StopTimeoutError,
    TargetExitedError,
)
from . import debugapi, win32

STOP_TIMEOUT_MS = 10_000
"""Milliseconds until the first debug event, which the system makes itself, must have come."""


class Hold:
    """Keeps the first debug event of a process unanswered: all its threads stand still.

    The system counts debugging by thread, so one thread of ours makes all the calls.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self._pid = pid
        self._handle = handle
        self._thread = ThreadPoolExecutor(1, "minidumper-debugger")
        try:
            self._thread.submit(self._attach).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def release(self) -> None:
        """Let the process run."""
        try:
            self._thread.submit(debugapi.DebugActiveProcessStop, self._pid).result()
        except NativeCallError:
            if not has_exited(self._handle):
                raise
        finally:
            self._thread.shutdown()

    def _attach(self) -> None:
        # Connected first: then "do not kill it when we exit" holds from the first moment on.
        debugapi.DbgUiConnectToDbg()
        debugapi.DebugSetProcessKillOnExit(False)
        try:
            debugapi.DebugActiveProcess(self._pid)
        except NativeCallError as err:
            raise self._refused(err) from err
        event = debugapi.DEBUG_EVENT()
        try:
            # It comes before the break-in thread runs, which would block in a process that hangs
            # on its loader lock.
            debugapi.WaitForDebugEvent(byref(event), STOP_TIMEOUT_MS)
        except NativeCallError as err:
            debugapi.DebugActiveProcessStop(self._pid)
            if err.code != win32.ERROR_SEM_TIMEOUT:
                raise
            raise StopTimeoutError(
                f"process {self._pid} did not stop within {STOP_TIMEOUT_MS / 1000:.0f} s",
                stage="stop",
            ) from err
        if event.dwDebugEventCode == debugapi.CREATE_PROCESS_DEBUG_EVENT and event.u.hFile:
            win32.CloseHandle(event.u.hFile)

    def _refused(self, err: NativeCallError) -> Exception:
        if has_exited(self._handle):
            return TargetExitedError(f"process {self._pid} ended", pid=self._pid)
        if is_debugged(self._handle):
            return AlreadyTracedError(
                f"another debugger holds process {self._pid}",
                tracer_pid=0,
                pid=self._pid,
                hint="end that debugger",
            )
        if err.code == win32.ERROR_ACCESS_DENIED:
            return AccessDeniedError(
                f"process {self._pid} cannot be stopped: access denied",
                gate="user",
                pid=self._pid,
                hint="run as administrator",
            )
        return err


def is_debugged(handle: int) -> bool:
    """Whether a debugger holds a process."""
    answer = c_int32()
    debugapi.CheckRemoteDebuggerPresent(handle, byref(answer))
    return bool(answer.value)


def has_exited(handle: int) -> bool:
    """Whether a process has ended."""
    return bool(win32.WaitForSingleObject(handle, 0) != win32.WAIT_TIMEOUT)
