"""The command line of a process."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import POINTER, byref, c_int32, c_void_p, cast, sizeof

from ...dbghelp import wide_string
from . import win32


def command_line(handle: int, read: Callable[[int, int], bytes]) -> str:
    """As the process was given it.

    Raises:
        NativeCallError, MemoryFaultError: the system does not let us look.
    """
    basic = win32.PROCESS_BASIC_INFORMATION()
    win32.NtQueryInformationProcess(
        handle, win32.PROCESS_BASIC_INFORMATION_CLASS, byref(basic), sizeof(basic), None
    )
    peb = win32.PEB.from_buffer_copy(read(basic.PebBaseAddress, sizeof(win32.PEB)))
    parameters = win32.RTL_USER_PROCESS_PARAMETERS.from_buffer_copy(
        read(peb.ProcessParameters, sizeof(win32.RTL_USER_PROCESS_PARAMETERS))
    )
    text = parameters.CommandLine
    return read(text.Buffer, text.Length).decode("utf-16-le", "replace")


def split(line: str) -> list[str]:
    """The words of a command line, as the C library splits them."""
    if not line:
        return []  # for which the system gives our own
    count = c_int32()
    words = win32.CommandLineToArgvW(line, byref(count))
    try:
        array = cast(words, POINTER(c_void_p))
        return [wide_string(array[index]) for index in range(count.value)]
    finally:
        win32.LocalFree(words)
