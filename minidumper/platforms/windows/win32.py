"""How functions of Windows are called, those of processes and threads; importable everywhere.

Others are declared by subject in the modules whose names end in "api".

A function is looked up in its system DLL when it is called first. Failure raises NativeCallError
with the system's error code (winerror.h). Widths are fixed: the types of `ctypes.wintypes` are
wrong elsewhere.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_int32,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    c_wchar_p,
    sizeof,
)
from functools import cache, cached_property
from typing import Any

from ...errors import NativeCallError

# winerror.h
ERROR_ACCESS_DENIED = 5
ERROR_INVALID_PARAMETER = 87
ERROR_SEM_TIMEOUT = 121
ERROR_NOT_ALL_ASSIGNED = 1300

# https://learn.microsoft.com/windows/win32/procthread/process-security-and-access-rights
PROCESS_CREATE_THREAD = 0x0002
PROCESS_VM_OPERATION = 0x0008
PROCESS_VM_READ = 0x0010
PROCESS_VM_WRITE = 0x0020
PROCESS_DUP_HANDLE = 0x0040
PROCESS_QUERY_INFORMATION = 0x0400
PROCESS_SUSPEND_RESUME = 0x0800
SYNCHRONIZE = 0x0010_0000
THREAD_GET_CONTEXT = 0x0008
THREAD_SET_CONTEXT = 0x0010
THREAD_QUERY_INFORMATION = 0x0040
HANDLE_FLAG_INHERIT = 1  # handleapi.h
WAIT_TIMEOUT = 258  # winerror.h

# winnt.h: CONTEXT_ALL of each processor
CONTEXT_ALL = {32: 0x0001_003F, 64: 0x0010_001F}

TOKEN_QUERY, TOKEN_ADJUST_PRIVILEGES = 0x08, 0x20  # winnt.h
SE_PRIVILEGE_ENABLED = 2  # winnt.h
PROCESS_BASIC_INFORMATION_CLASS = 0  # ProcessBasicInformation, winternl.h
THREAD_BASIC_INFORMATION_CLASS = 0  # ThreadBasicInformation, winternl.h
INVALID_HANDLE = 2 ** (8 * sizeof(c_void_p)) - 1  # INVALID_HANDLE_VALUE, handleapi.h


class PROCESS_BASIC_INFORMATION(Structure):
    """What a process is, with the address of its PEB.

    https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntqueryinformationprocess
    """

    _fields_ = (
        ("ExitStatus", c_int32),
        ("PebBaseAddress", c_size_t),
        ("AffinityMask", c_size_t),
        ("BasePriority", c_int32),
        ("UniqueProcessId", c_size_t),
        ("InheritedFromUniqueProcessId", c_size_t),
    )


class THREAD_BASIC_INFORMATION(Structure):
    """What a thread is, with the address of its TEB.

    https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntqueryinformationthread
    """

    _fields_ = (
        ("ExitStatus", c_int32),
        ("TebBaseAddress", c_size_t),
        ("UniqueProcess", c_size_t),
        ("UniqueThread", c_size_t),
        ("AffinityMask", c_size_t),
        ("Priority", c_int32),
        ("BasePriority", c_int32),
    )


class UNICODE_STRING(Structure):
    """Text of `Length` bytes at `Buffer`.

    https://learn.microsoft.com/windows/win32/api/ntdef/ns-ntdef-_unicode_string
    """

    _fields_ = (("Length", c_uint16), ("MaximumLength", c_uint16), ("Buffer", c_size_t))


class PEB(Structure):
    """The beginning of a process's environment block.

    https://learn.microsoft.com/windows/win32/api/winternl/ns-winternl-peb
    """

    _fields_ = (
        ("Reserved1", c_uint8 * 2),
        ("BeingDebugged", c_uint8),
        ("Reserved2", c_uint8),
        ("Reserved3", c_size_t * 2),
        ("Ldr", c_size_t),
        ("ProcessParameters", c_size_t),
    )


class RTL_USER_PROCESS_PARAMETERS(Structure):
    """What a process was started with.

    https://learn.microsoft.com/windows/win32/api/winternl/ns-winternl-rtl_user_process_parameters
    """

    _fields_ = (
        ("Reserved1", c_uint8 * 16),
        ("Reserved2", c_size_t * 10),
        ("ImagePathName", UNICODE_STRING),
        ("CommandLine", UNICODE_STRING),
    )


class SYSTEM_INFO(Structure):
    """The processors, and how addresses are laid out.

    https://learn.microsoft.com/windows/win32/api/sysinfoapi/ns-sysinfoapi-system_info
    """

    _fields_ = (
        ("wProcessorArchitecture", c_uint16),
        ("wReserved", c_uint16),
        ("dwPageSize", c_uint32),
        ("lpMinimumApplicationAddress", c_void_p),
        ("lpMaximumApplicationAddress", c_void_p),
        ("dwActiveProcessorMask", c_size_t),
        ("dwNumberOfProcessors", c_uint32),
        ("dwProcessorType", c_uint32),
        ("dwAllocationGranularity", c_uint32),
        ("wProcessorLevel", c_uint16),
        ("wProcessorRevision", c_uint16),
    )


class OSVERSIONINFOEXW(Structure):
    """The version of the system.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-osversioninfoexw
    """

    _fields_ = (
        ("dwOSVersionInfoSize", c_uint32),
        ("dwMajorVersion", c_uint32),
        ("dwMinorVersion", c_uint32),
        ("dwBuildNumber", c_uint32),
        ("dwPlatformId", c_uint32),
        ("szCSDVersion", c_uint16 * 128),
        ("wServicePackMajor", c_uint16),
        ("wServicePackMinor", c_uint16),
        ("wSuiteMask", c_uint16),
        ("wProductType", c_uint8),
        ("wReserved", c_uint8),
    )


class TOKEN_PRIVILEGES(Structure):
    """One privilege of a token: a LUID in two halves, and its attributes.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-token_privileges
    """

    _fields_ = (
        ("PrivilegeCount", c_uint32),
        ("LuidLow", c_uint32),
        ("LuidHigh", c_int32),
        ("Attributes", c_uint32),
    )


@cache
def library(path: str, winmode: int) -> Any:
    """A DLL that stays loaded; `winmode` are the flags of LoadLibraryEx (libloaderapi.h)."""
    # Looked up by name: only Python for Windows has it.
    return vars(ctypes)["WinDLL"](path, use_last_error=True, winmode=winmode)


def last_error() -> int:
    """The error of the calling thread's last foreign call."""
    return int(vars(ctypes)["get_last_error"]())


_LOAD_LIBRARY_SEARCH_SYSTEM32 = 0x800  # libloaderapi.h


class Function:
    """A function of a system DLL; 0, NULL and INVALID_HANDLE_VALUE are failures."""

    def __init__(self, dll: str, name: str, restype: Any, *argtypes: Any) -> None:
        self._dll = dll
        self._name = name
        self._restype = restype
        self._argtypes = argtypes

    @cached_property
    def exists(self) -> bool:
        """Whether this system has the function."""
        return hasattr(library(f"{self._dll}.dll", _LOAD_LIBRARY_SEARCH_SYSTEM32), self._name)

    @cached_property
    def address(self) -> int:
        """Where the function is, in each process: system DLLs lie at one place in all of them."""
        return ctypes.cast(self._call, c_void_p).value or 0

    @cached_property
    def _call(self) -> Any:
        function = getattr(library(f"{self._dll}.dll", _LOAD_LIBRARY_SEARCH_SYSTEM32), self._name)
        function.restype = self._restype
        function.argtypes = self._argtypes
        function.errcheck = self._check
        return function

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def _check(self, result: Any, function: Any, arguments: Any) -> Any:
        if not result or result == INVALID_HANDLE:
            raise failure(self._name, last_error())
        return result


class Status(Function):
    """A function that returns an NTSTATUS or HRESULT: negative ones are failures."""

    def _check(self, result: Any, function: Any, arguments: Any) -> Any:
        if result < 0:
            raise failure(self._name, result)
        return result


class Plain(Function):
    """A function whose result is no verdict."""

    def _check(self, result: Any, function: Any, arguments: Any) -> Any:
        return result


def aligned(kind: Any) -> tuple[Any, Any]:
    """A buffer to be kept, and a structure in it at an address that is a multiple of 16."""
    buffer = (c_uint8 * (sizeof(kind) + 16))()
    return buffer, kind.from_buffer(buffer, -ctypes.addressof(buffer) % 16)


def text(units: Any) -> str:
    """The zero-terminated text in an array of UTF-16 units."""
    return bytes(units).decode("utf-16-le", "surrogatepass").split("\0", 1)[0]


def os_error(code: int) -> OSError:
    """An error code of the system as the OSError that Python raises for it."""
    error: OSError = vars(ctypes)["WinError"](code)
    return error


def failure(api: str, code: int) -> NativeCallError:
    """The error of a failed call, with the system's text for its code."""
    text: str = vars(ctypes)["FormatError"](code)
    return NativeCallError(api, code, detail="" if text == _UNKNOWN else text.strip().rstrip("."))


_UNKNOWN = "<no description>"  # what Python says of a code that the system has no text for


HANDLE, BOOL, DWORD = c_void_p, c_int32, c_uint32

# https://learn.microsoft.com/windows/win32/api/ has a page for each.
OpenProcess = Function("kernel32", "OpenProcess", HANDLE, DWORD, BOOL, DWORD)
OpenThread = Function("kernel32", "OpenThread", HANDLE, DWORD, BOOL, DWORD)
CloseHandle = Function("kernel32", "CloseHandle", BOOL, HANDLE)
SetHandleInformation = Function("kernel32", "SetHandleInformation", BOOL, HANDLE, DWORD, DWORD)
WaitForSingleObject = Plain("kernel32", "WaitForSingleObject", DWORD, HANDLE, DWORD)
IsWow64Process = Function("kernel32", "IsWow64Process", BOOL, HANDLE, POINTER(c_int32))
GetCurrentProcess = Plain("kernel32", "GetCurrentProcess", HANDLE)
GetSystemDirectoryW = Function("kernel32", "GetSystemDirectoryW", DWORD, c_wchar_p, DWORD)


GetThreadContext = Function("kernel32", "GetThreadContext", BOOL, HANDLE, c_void_p)
SetThreadContext = Function("kernel32", "SetThreadContext", BOOL, HANDLE, c_void_p)
GetThreadDescription = Status(
    "kernel32", "GetThreadDescription", c_int32, HANDLE, POINTER(c_void_p)
)
LocalFree = Plain("kernel32", "LocalFree", c_void_p, c_void_p)
NtQueryInformationProcess = Status(
    "ntdll",
    "NtQueryInformationProcess",
    c_int32,
    HANDLE,
    c_uint32,
    c_void_p,
    c_uint32,
    POINTER(c_uint32),
)
NtQueryInformationThread = Status(
    "ntdll",
    "NtQueryInformationThread",
    c_int32,
    HANDLE,
    c_uint32,
    c_void_p,
    c_uint32,
    POINTER(c_uint32),
)


OpenProcessToken = Function("advapi32", "OpenProcessToken", BOOL, HANDLE, DWORD, POINTER(c_void_p))
LookupPrivilegeValueW = Function(
    "advapi32", "LookupPrivilegeValueW", BOOL, c_wchar_p, c_wchar_p, c_void_p
)
AdjustTokenPrivileges = Function(
    "advapi32",
    "AdjustTokenPrivileges",
    BOOL,
    HANDLE,
    BOOL,
    POINTER(TOKEN_PRIVILEGES),
    DWORD,
    c_void_p,
    c_void_p,
)

CommandLineToArgvW = Function(
    "shell32", "CommandLineToArgvW", c_void_p, c_wchar_p, POINTER(c_int32)
)
GetSystemInfo = Plain("kernel32", "GetSystemInfo", None, POINTER(SYSTEM_INFO))
RtlGetVersion = Status("ntdll", "RtlGetVersion", c_int32, POINTER(OSVERSIONINFOEXW))
GetProcessTimes = Function("kernel32", "GetProcessTimes", BOOL, HANDLE, *(POINTER(c_uint64),) * 4)
GetFileVersionInfoSizeW = Plain(
    "version", "GetFileVersionInfoSizeW", DWORD, c_wchar_p, POINTER(c_uint32)
)
GetFileVersionInfoW = Function(
    "version", "GetFileVersionInfoW", BOOL, c_wchar_p, DWORD, DWORD, c_void_p
)
VerQueryValueW = Function(
    "version",
    "VerQueryValueW",
    BOOL,
    c_void_p,
    c_wchar_p,
    POINTER(c_void_p),
    POINTER(c_uint32),
)
