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
from ...formats.minidump import ExceptionInfo
from . import debugapi, win32

STOP_TIMEOUT_MS = 10_000
"""Milliseconds until the first debug event, which the system makes itself, must have come."""


class Hold:
    """Keeps the first debug event of a process unanswered: all its threads stand still.

    The system counts debugging by thread, so one thread of ours makes all the calls.
    """

    held: ExceptionInfo | None = None
    held_since: float | None = None
    """It holds at no event."""

    def __init__(self, pid: int, handle: int) -> None:
        self._pid = pid
        self._handle = handle
        self._thread = ThreadPoolExecutor(1, "minidumper-debugger")

    def stop(self) -> None:
        """Hold all threads.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: the process ended meanwhile.
            StopTimeoutError: it did not stop in time.
        """
        try:
            self._thread.submit(self._stop).result()
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

    def _stop(self) -> None:
        attach(self._pid, self._handle)
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
        created = event.dwDebugEventCode == debugapi.CREATE_PROCESS_DEBUG_EVENT
        if created and event.u.CreateProcessInfo.hFile:
            win32.CloseHandle(event.u.CreateProcessInfo.hFile)


def attach(pid: int, handle: int) -> None:
    """Make the calling thread the debugger of a process, which outlives us.

    Raises:
        AccessDeniedError, AlreadyTracedError: the system forbids it.
        TargetExitedError: the process ended meanwhile.
    """
    outlive_us()
    try:
        debugapi.DebugActiveProcess(pid)
    except NativeCallError as err:
        raise _refused(pid, handle, err) from err


def outlive_us() -> None:
    """Have what the calling thread debugs from now on outlive it."""
    # Connected first: then it holds from the first moment on.
    debugapi.DbgUiConnectToDbg()
    debugapi.DebugSetProcessKillOnExit(False)


def _refused(pid: int, handle: int, err: NativeCallError) -> Exception:
    if has_exited(handle):
        return TargetExitedError(f"process {pid} ended", pid=pid)
    if is_debugged(handle):
        return AlreadyTracedError(
            f"another debugger holds process {pid}",
            tracer_pid=0,
            pid=pid,
            hint="end that debugger",
        )
    if err.code == win32.ERROR_ACCESS_DENIED:
        return AccessDeniedError(
            f"process {pid} cannot be stopped: access denied",
            gate="user",
            pid=pid,
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
