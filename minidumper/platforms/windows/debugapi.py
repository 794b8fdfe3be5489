"""What the debugging of processes takes: events, and the functions of a debugger.

https://learn.microsoft.com/windows/win32/debug/debugging-functions
"""

from __future__ import annotations

from ctypes import POINTER, Structure, Union, c_int32, c_uint16, c_uint32, c_void_p

from ...dbghelp import EXCEPTION_RECORD
from .win32 import BOOL, DWORD, HANDLE, Function, Plain, Status

# minwinbase.h
EXCEPTION_DEBUG_EVENT = 1
CREATE_THREAD_DEBUG_EVENT = 2
CREATE_PROCESS_DEBUG_EVENT = 3
EXIT_THREAD_DEBUG_EVENT = 4
EXIT_PROCESS_DEBUG_EVENT = 5
LOAD_DLL_DEBUG_EVENT = 6
UNLOAD_DLL_DEBUG_EVENT = 7
OUTPUT_DEBUG_STRING_EVENT = 8

# ntstatus.h: how an event is answered
DBG_CONTINUE = 0x0001_0002
DBG_EXCEPTION_NOT_HANDLED = 0x8001_0001

EXCEPTION_BREAKPOINT = 0x8000_0003  # minwinbase.h


class EXCEPTION_DEBUG_INFO(Structure):
    """An exception in a process that is debugged.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-exception_debug_info
    """

    _fields_ = (("ExceptionRecord", EXCEPTION_RECORD), ("dwFirstChance", c_uint32))


class CREATE_THREAD_DEBUG_INFO(Structure):
    """A thread has begun.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-create_thread_debug_info
    """

    _fields_ = (
        ("hThread", c_void_p),
        ("lpThreadLocalBase", c_void_p),
        ("lpStartAddress", c_void_p),
    )


class CREATE_PROCESS_DEBUG_INFO(Structure):
    """The process is there; `hFile` is ours to close.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-create_process_debug_info
    """

    _fields_ = (
        ("hFile", c_void_p),
        ("hProcess", c_void_p),
        ("hThread", c_void_p),
        ("lpBaseOfImage", c_void_p),
        ("dwDebugInfoFileOffset", c_uint32),
        ("nDebugInfoSize", c_uint32),
        ("lpThreadLocalBase", c_void_p),
        ("lpStartAddress", c_void_p),
        ("lpImageName", c_void_p),
        ("fUnicode", c_uint16),
    )


class EXIT_THREAD_DEBUG_INFO(Structure):
    """A thread has ended.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-exit_thread_debug_info
    """

    _fields_ = (("dwExitCode", c_uint32),)


class EXIT_PROCESS_DEBUG_INFO(Structure):
    """The last thread is about to end.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-exit_process_debug_info
    """

    _fields_ = (("dwExitCode", c_uint32),)


class LOAD_DLL_DEBUG_INFO(Structure):
    """An image was mapped; `hFile` is ours to close.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-load_dll_debug_info
    """

    _fields_ = (
        ("hFile", c_void_p),
        ("lpBaseOfDll", c_void_p),
        ("dwDebugInfoFileOffset", c_uint32),
        ("nDebugInfoSize", c_uint32),
        ("lpImageName", c_void_p),
        ("fUnicode", c_uint16),
    )


class UNLOAD_DLL_DEBUG_INFO(Structure):
    """An image is gone.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-unload_dll_debug_info
    """

    _fields_ = (("lpBaseOfDll", c_void_p),)


class OUTPUT_DEBUG_STRING_INFO(Structure):
    """A text of so many characters, the closing zero among them.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-output_debug_string_info
    """

    _fields_ = (
        ("lpDebugStringData", c_void_p),
        ("fUnicode", c_uint16),
        ("nDebugStringLength", c_uint16),
    )


class _DebugInfo(Union):
    _fields_ = (
        ("Exception", EXCEPTION_DEBUG_INFO),
        ("CreateThread", CREATE_THREAD_DEBUG_INFO),
        ("CreateProcessInfo", CREATE_PROCESS_DEBUG_INFO),
        ("ExitThread", EXIT_THREAD_DEBUG_INFO),
        ("ExitProcess", EXIT_PROCESS_DEBUG_INFO),
        ("LoadDll", LOAD_DLL_DEBUG_INFO),
        ("UnloadDll", UNLOAD_DLL_DEBUG_INFO),
        ("DebugString", OUTPUT_DEBUG_STRING_INFO),
    )


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
WaitForDebugEventEx = Function("kernel32", "WaitForDebugEventEx", BOOL, POINTER(DEBUG_EVENT), DWORD)
ContinueDebugEvent = Function("kernel32", "ContinueDebugEvent", BOOL, DWORD, DWORD, DWORD)
DebugBreakProcess = Function("kernel32", "DebugBreakProcess", BOOL, HANDLE)
DbgBreakPoint = Plain("ntdll", "DbgBreakPoint", None)
DbgUiRemoteBreakin = Plain("ntdll", "DbgUiRemoteBreakin", None, c_void_p)
NtTerminateProcess = Plain("ntdll", "NtTerminateProcess", c_int32, HANDLE, c_int32)
NtSuspendProcess = Status("ntdll", "NtSuspendProcess", c_int32, HANDLE)
NtResumeProcess = Status("ntdll", "NtResumeProcess", c_int32, HANDLE)
DbgUiConnectToDbg = Status("ntdll", "DbgUiConnectToDbg", c_int32)
CheckRemoteDebuggerPresent = Function(
    "kernel32", "CheckRemoteDebuggerPresent", BOOL, HANDLE, POINTER(c_int32)
)
