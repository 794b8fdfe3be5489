"""What Wine does otherwise than Windows.

- The event of a process's end comes when its memory is gone: there alone an int3 stands at the
  system call that ends a process. On Windows nothing is patched.
- A debugger that detaches ends what it did not answer with "handled" (server/debugger.c): a
  program whose own exception that is then runs on behind a throw.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import byref, c_size_t, c_void_p
from typing import Any

from ...dbghelp import CONTEXT, HOST_BITS
from ...errors import NativeCallError
from . import debugapi, memoryapi, win32

_INT3 = b"\xcc"
_ACCESS = win32.PROCESS_VM_OPERATION | win32.PROCESS_VM_READ | win32.PROCESS_VM_WRITE
_OURS = (0, 2**64 - 1)  # the handle that it is called with: before, and at the very end


def is_wine() -> bool:
    """Whether this system is Wine."""
    return win32.Plain("ntdll", "wine_get_version", c_void_p).exists


@contextmanager
def suspended(handle: int) -> Iterator[None]:
    """Keep the threads of a process from raising anything."""
    debugapi.NtSuspendProcess(handle)
    try:
        yield
    finally:
        debugapi.NtResumeProcess(handle)


class ExitBreakpoint:
    """Stands until it is hit, or removed; the process is held meanwhile."""

    def __init__(self, pid: int) -> None:
        """Set it in a process."""
        self._handle = win32.OpenProcess(_ACCESS, False, pid)
        self._address = debugapi.NtTerminateProcess.address
        self._before = ctypes.create_string_buffer(1)
        memoryapi.ReadProcessMemory(self._handle, self._address, self._before, 1, byref(c_size_t()))
        self._write(_INT3)

    def is_at(self, address: int) -> bool:
        """Whether it was hit where an exception says."""
        return bool(self._handle) and address in (self._address, self._address + 1)

    def pass_by(self, tid: int) -> bool:
        """Have a thread that hit it go on as if it were not there; whether it ends the process."""
        self.remove()
        with _registers(tid) as context:
            context.Rip = self._address
            return context.Rcx in _OURS

    def remove(self) -> None:
        """Take it out; the process may have ended."""
        if self._handle:
            with suppress(NativeCallError):
                self._write(self._before.raw)
            win32.CloseHandle(self._handle)
            self._handle = 0

    def _write(self, code: bytes) -> None:
        memoryapi.WriteProcessMemory(self._handle, self._address, code, len(code), None)


@contextmanager
def _registers(tid: int) -> Iterator[Any]:
    """The registers of a held thread, to be changed."""
    handle = win32.OpenThread(win32.THREAD_GET_CONTEXT | win32.THREAD_SET_CONTEXT, False, tid)
    try:
        _, context = win32.aligned(CONTEXT)
        context.ContextFlags = win32.CONTEXT_ALL[HOST_BITS]
        win32.GetThreadContext(handle, byref(context))
        yield context
        win32.SetThreadContext(handle, byref(context))
    finally:
        win32.CloseHandle(handle)
