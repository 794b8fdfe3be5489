"""How a process is made, and what became of it.

https://learn.microsoft.com/windows/win32/procthread/process-and-thread-functions
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_int32, c_uint16, c_uint32, c_void_p, c_wchar_p

from .win32 import BOOL, DWORD, HANDLE, Function

# winbase.h
DEBUG_ONLY_THIS_PROCESS = 0x0000_0002
CREATE_NEW_CONSOLE = 0x0000_0010
CREATE_NEW_PROCESS_GROUP = 0x0000_0200


class STARTUPINFOW(Structure):
    """How a process begins.

    https://learn.microsoft.com/windows/win32/api/processthreadsapi/ns-processthreadsapi-startupinfow
    """

    _fields_ = (
        ("cb", c_uint32),
        ("lpReserved", c_wchar_p),
        ("lpDesktop", c_wchar_p),
        ("lpTitle", c_wchar_p),
        ("dwX", c_uint32),
        ("dwY", c_uint32),
        ("dwXSize", c_uint32),
        ("dwYSize", c_uint32),
        ("dwXCountChars", c_uint32),
        ("dwYCountChars", c_uint32),
        ("dwFillAttribute", c_uint32),
        ("dwFlags", c_uint32),
        ("wShowWindow", c_uint16),
        ("cbReserved2", c_uint16),
        ("lpReserved2", c_void_p),
        ("hStdInput", c_void_p),
        ("hStdOutput", c_void_p),
        ("hStdError", c_void_p),
    )


class PROCESS_INFORMATION(Structure):
    """A process that was made; the handles are ours to close.

    https://learn.microsoft.com/windows/win32/api/processthreadsapi/ns-processthreadsapi-process_information
    """

    _fields_ = (
        ("hProcess", c_void_p),
        ("hThread", c_void_p),
        ("dwProcessId", c_uint32),
        ("dwThreadId", c_uint32),
    )


CreateProcessW = Function(
    "kernel32",
    "CreateProcessW",
    BOOL,
    c_wchar_p,
    c_wchar_p,
    c_void_p,
    c_void_p,
    BOOL,
    DWORD,
    c_void_p,
    c_wchar_p,
    POINTER(STARTUPINFOW),
    POINTER(PROCESS_INFORMATION),
)
GetExitCodeProcess = Function("kernel32", "GetExitCodeProcess", BOOL, HANDLE, POINTER(c_int32))
TerminateProcess = Function("kernel32", "TerminateProcess", BOOL, HANDLE, c_uint32)
