"""What the debugging of processes takes: events, and the functions of a debugger.

https://learn.microsoft.com/windows/win32/debug/debugging-functions
"""

from __future__ import annotations

from ctypes import POINTER, Structure, Union, c_int32, c_uint32, c_void_p

from ...dbghelp import EXCEPTION_RECORD
from .win32 import BOOL, DWORD, HANDLE, Function, Status

# minwinbase.h
CREATE_PROCESS_DEBUG_EVENT = 3


class EXCEPTION_DEBUG_INFO(Structure):
    """An exception in a process that is debugged.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-exception_debug_info
    """

    _fields_ = (("ExceptionRecord", EXCEPTION_RECORD), ("dwFirstChance", c_uint32))


class _DebugInfo(Union):
    # hFile is the first member of CREATE_PROCESS_ and of LOAD_DLL_DEBUG_INFO.
    _fields_ = (("hFile", c_void_p), ("Exception", EXCEPTION_DEBUG_INFO))


class DEBUG_EVENT(Structure):
    """What happened in a process that is debugged.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-debug_event
    """

    _fields_ = (
        ("dwDebugEventCode", c_uint32),
        ("dwProcessId", c_uint32),
        ("dwThreadId", c_uint32),
        ("u", _DebugInfo),
    )


DebugActiveProcess = Function("kernel32", "DebugActiveProcess", BOOL, DWORD)
DebugActiveProcessStop = Function("kernel32", "DebugActiveProcessStop", BOOL, DWORD)
DebugSetProcessKillOnExit = Function("kernel32", "DebugSetProcessKillOnExit", BOOL, BOOL)
WaitForDebugEvent = Function("kernel32", "WaitForDebugEvent", BOOL, POINTER(DEBUG_EVENT), DWORD)
DbgUiConnectToDbg = Status("ntdll", "DbgUiConnectToDbg", c_int32)
CheckRemoteDebuggerPresent = Function(
    "kernel32", "CheckRemoteDebuggerPresent", BOOL, HANDLE, POINTER(c_int32)
)
