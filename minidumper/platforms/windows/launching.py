"""Programs that are launched under watch: we are their debugger from the first instruction on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from ctypes import byref, c_int32, sizeof

from ...errors import CaptureError, NativeCallError, TargetNotFoundError
from . import processapi, win32
from .debugging import outlive_us
from .debugloop import DebugLoop

_LOOK_MS = 100
"""Milliseconds between two looks for Ctrl+C, which ends no wait of Windows."""


class Launched:
    """A program that waits for `go()` before its first instruction."""

    def __init__(self, command: Sequence[str], *, new_console: bool) -> None:
        """Start it; with `new_console` in one of its own, else in ours, whose Ctrl+C is not for it.

        Raises:
            TargetNotFoundError: there is no such program.
            CaptureError: the system does not start it.
        """
        path = shutil.which(command[0])
        if path is None:
            raise TargetNotFoundError(
                f"there is no program {command[0]}",
                name=command[0],
                hint="give its path, or see what PATH has",
            )
        self.pid = 0
        self._path = path
        self._line = subprocess.list2cmdline(command)
        self._flags = processapi.DEBUG_ONLY_THIS_PROCESS | (
            processapi.CREATE_NEW_CONSOLE if new_console else processapi.CREATE_NEW_PROCESS_GROUP
        )
        self._handle = 0
        self._watched = False
        try:
            self._loop = DebugLoop(self._begin, stopped=True)
        except NativeCallError as err:
            raise CaptureError(f"{command[0]} does not start: {err}", stage="launch") from err

    def watch(self) -> DebugLoop:
        """The loop, which then belongs to a watcher."""
        self._watched = True
        return self._loop

    def go(self) -> None:
        """Let it begin, free of us where nobody watches it."""
        if self._watched:
            self._loop.release()
        else:
            self._loop.close()

    def give_up(self) -> None:
        """End it before it has begun."""
        processapi.TerminateProcess(self._handle, 1)
        self._loop.close()

    def wait(self) -> int:
        """The exit code, when it has ended; as Python passes it on, with a sign."""
        while win32.WaitForSingleObject(self._handle, _LOOK_MS) == win32.WAIT_TIMEOUT:
            pass
        code = c_int32()
        processapi.GetExitCodeProcess(self._handle, byref(code))
        return code.value

    def leave(self) -> None:
        """It does so by itself."""

    def _begin(self) -> int:
        outlive_us()
        made = processapi.PROCESS_INFORMATION()
        how = processapi.STARTUPINFOW(cb=sizeof(processapi.STARTUPINFOW))
        # What is no console of ours is copied for it all the same: files and pipes.
        processapi.CreateProcessW(
            self._path,
            self._line,
            None,
            None,
            False,
            self._flags,
            None,
            None,
            byref(how),
            byref(made),
        )
        win32.CloseHandle(made.hThread)
        self.pid, self._handle = made.dwProcessId, made.hProcess
        return self.pid
