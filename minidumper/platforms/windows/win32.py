"""The functions and structures of Windows that are used, each declared once; importable everywhere.

A function is looked up in its system DLL when it is called first. Failure raises NativeCallError
with the system's error code (winerror.h). Widths are fixed: the types of `ctypes.wintypes` are
wrong elsewhere.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    Union,
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

from ...dbghelp import EXCEPTION_RECORD
from ...errors import NativeCallError

# winerror.h
ERROR_ACCESS_DENIED = 5
ERROR_INVALID_PARAMETER = 87
ERROR_SEM_TIMEOUT = 121
ERROR_NOT_ALL_ASSIGNED = 1300

# https://learn.microsoft.com/windows/win32/procthread/process-security-and-access-rights
PROCESS_VM_READ = 0x0010
PROCESS_DUP_HANDLE = 0x0040
PROCESS_QUERY_INFORMATION = 0x0400
SYNCHRONIZE = 0x0010_0000
THREAD_GET_CONTEXT = 0x0008
THREAD_QUERY_INFORMATION = 0x0040
HANDLE_FLAG_INHERIT = 1  # handleapi.h
WAIT_TIMEOUT = 258  # winerror.h

# winnt.h: MEMORY_BASIC_INFORMATION
MEM_COMMIT = 0x1000
MEM_RESERVE = 0x2000
MEM_RELEASE = 0x8000
MEM_PRIVATE = 0x2_0000
MEM_MAPPED = 0x4_0000
PAGE_NOACCESS = 0x01
PAGE_READWRITE = 0x04
PAGE_GUARD = 0x100
PROTECTION = {
    0x02: "r--",  # PAGE_READONLY
    0x04: "rw-",  # PAGE_READWRITE
    0x08: "r--",  # PAGE_WRITECOPY: a page that is written becomes PAGE_READWRITE
    0x10: "--x",  # PAGE_EXECUTE
    0x20: "r-x",  # PAGE_EXECUTE_READ
    0x40: "rwx",  # PAGE_EXECUTE_READWRITE
    0x80: "r-x",  # PAGE_EXECUTE_WRITECOPY
}
"""https://learn.microsoft.com/windows/win32/memory/memory-protection-constants"""

# tlhelp32.h
TH32CS_SNAPPROCESS = 2
TH32CS_SNAPTHREAD = 4
TH32CS_SNAPMODULE = 8
TH32CS_SNAPMODULE32 = 0x10

# minwinbase.h
CREATE_PROCESS_DEBUG_EVENT = 3

# winnt.h: CONTEXT_ALL of each processor
CONTEXT_ALL = {32: 0x0001_003F, 64: 0x0010_001F}

# fileapi.h, winnt.h
GENERIC_READ = 0x8000_0000
GENERIC_WRITE = 0x4000_0000
DELETE = 0x0001_0000
FILE_SHARE_READ = 1
FILE_SHARE_DELETE = 4
CREATE_NEW = 1
FILE_ATTRIBUTE_NORMAL = 0x80
FILE_STANDARD_INFO_CLASS = 1  # FileStandardInfo, minwinbase.h
FILE_DISPOSITION_INFO_CLASS = 4  # FileDispositionInfo, minwinbase.h

SDDL_REVISION_1 = 1  # sddl.h
TOKEN_QUERY, TOKEN_ADJUST_PRIVILEGES = 0x08, 0x20  # winnt.h
SE_PRIVILEGE_ENABLED = 2  # winnt.h
PROCESS_BASIC_INFORMATION_CLASS = 0  # ProcessBasicInformation, winternl.h
THREAD_BASIC_INFORMATION_CLASS = 0  # ThreadBasicInformation, winternl.h
MAX_PATH = 260  # minwindef.h
INVALID_HANDLE = 2 ** (8 * sizeof(c_void_p)) - 1  # INVALID_HANDLE_VALUE, handleapi.h


class MEMORY_BASIC_INFORMATION(Structure):
    """A region of virtual memory; PartitionId is in what is padding here, on 64-bit systems.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-memory_basic_information
    """

    _fields_ = (
        ("BaseAddress", c_size_t),
        ("AllocationBase", c_size_t),
        ("AllocationProtect", c_uint32),
        ("RegionSize", c_size_t),
        ("State", c_uint32),
        ("Protect", c_uint32),
        ("Type", c_uint32),
    )


class PROCESSENTRY32W(Structure):
    """A process of a toolhelp snapshot.

    https://learn.microsoft.com/windows/win32/api/tlhelp32/ns-tlhelp32-processentry32w
    """

    _fields_ = (
        ("dwSize", c_uint32),
        ("cntUsage", c_uint32),
        ("th32ProcessID", c_uint32),
        ("th32DefaultHeapID", c_size_t),
        ("th32ModuleID", c_uint32),
        ("cntThreads", c_uint32),
        ("th32ParentProcessID", c_uint32),
        ("pcPriClassBase", c_int32),
        ("dwFlags", c_uint32),
        ("szExeFile", c_uint16 * MAX_PATH),
    )


class THREADENTRY32(Structure):
    """A thread of a toolhelp snapshot.

    https://learn.microsoft.com/windows/win32/api/tlhelp32/ns-tlhelp32-threadentry32
    """

    _fields_ = (
        ("dwSize", c_uint32),
        ("cntUsage", c_uint32),
        ("th32ThreadID", c_uint32),
        ("th32OwnerProcessID", c_uint32),
        ("tpBasePri", c_int32),
        ("tpDeltaPri", c_int32),
        ("dwFlags", c_uint32),
    )


class MODULEENTRY32W(Structure):
    """A module of a toolhelp snapshot.

    https://learn.microsoft.com/windows/win32/api/tlhelp32/ns-tlhelp32-moduleentry32w
    """

    _fields_ = (
        ("dwSize", c_uint32),
        ("th32ModuleID", c_uint32),
        ("th32ProcessID", c_uint32),
        ("GlblcntUsage", c_uint32),
        ("ProccntUsage", c_uint32),
        ("modBaseAddr", c_size_t),
        ("modBaseSize", c_uint32),
        ("hModule", c_void_p),
        ("szModule", c_uint16 * 256),  # MAX_MODULE_NAME32 + 1, tlhelp32.h
        ("szExePath", c_uint16 * MAX_PATH),
    )


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


class MEMORYSTATUSEX(Structure):
    """The machine's memory, in bytes.

    https://learn.microsoft.com/windows/win32/api/sysinfoapi/ns-sysinfoapi-memorystatusex
    """

    _fields_ = (
        ("dwLength", c_uint32),
        ("dwMemoryLoad", c_uint32),
        ("ullTotalPhys", c_uint64),
        ("ullAvailPhys", c_uint64),
        ("ullTotalPageFile", c_uint64),
        ("ullAvailPageFile", c_uint64),
        ("ullTotalVirtual", c_uint64),
        ("ullAvailVirtual", c_uint64),
        ("ullAvailExtendedVirtual", c_uint64),
    )


class SECURITY_ATTRIBUTES(Structure):
    """Who may use a new object.

    https://learn.microsoft.com/windows/win32/api/wtypesbase/ns-wtypesbase-security_attributes
    """

    _fields_ = (
        ("nLength", c_uint32),
        ("lpSecurityDescriptor", c_void_p),
        ("bInheritHandle", c_int32),
    )


class FILE_STANDARD_INFO(Structure):
    """A file's sizes, in bytes.

    https://learn.microsoft.com/windows/win32/api/winbase/ns-winbase-file_standard_info
    """

    _fields_ = (
        ("AllocationSize", c_uint64),
        ("EndOfFile", c_uint64),
        ("NumberOfLinks", c_uint32),
        ("DeletePending", c_uint8),
        ("Directory", c_uint8),
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


class _Function:
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


class _Status(_Function):
    """A function that returns an NTSTATUS or HRESULT: negative ones are failures."""

    def _check(self, result: Any, function: Any, arguments: Any) -> Any:
        if result < 0:
            raise failure(self._name, result)
        return result


class _Plain(_Function):
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


_HANDLE, _BOOL, _DWORD = c_void_p, c_int32, c_uint32

# https://learn.microsoft.com/windows/win32/api/ has a page for each.
OpenProcess = _Function("kernel32", "OpenProcess", _HANDLE, _DWORD, _BOOL, _DWORD)
OpenThread = _Function("kernel32", "OpenThread", _HANDLE, _DWORD, _BOOL, _DWORD)
CloseHandle = _Function("kernel32", "CloseHandle", _BOOL, _HANDLE)
SetHandleInformation = _Function("kernel32", "SetHandleInformation", _BOOL, _HANDLE, _DWORD, _DWORD)
WaitForSingleObject = _Plain("kernel32", "WaitForSingleObject", _DWORD, _HANDLE, _DWORD)
IsWow64Process = _Function("kernel32", "IsWow64Process", _BOOL, _HANDLE, POINTER(c_int32))
GetCurrentProcess = _Plain("kernel32", "GetCurrentProcess", _HANDLE)
GetSystemDirectoryW = _Function("kernel32", "GetSystemDirectoryW", _DWORD, c_wchar_p, _DWORD)

CreateToolhelp32Snapshot = _Function(
    "kernel32", "CreateToolhelp32Snapshot", _HANDLE, _DWORD, _DWORD
)
Process32FirstW = _Plain("kernel32", "Process32FirstW", _BOOL, _HANDLE, POINTER(PROCESSENTRY32W))
Process32NextW = _Plain("kernel32", "Process32NextW", _BOOL, _HANDLE, POINTER(PROCESSENTRY32W))
Thread32First = _Plain("kernel32", "Thread32First", _BOOL, _HANDLE, POINTER(THREADENTRY32))
Thread32Next = _Plain("kernel32", "Thread32Next", _BOOL, _HANDLE, POINTER(THREADENTRY32))
Module32FirstW = _Plain("kernel32", "Module32FirstW", _BOOL, _HANDLE, POINTER(MODULEENTRY32W))
Module32NextW = _Plain("kernel32", "Module32NextW", _BOOL, _HANDLE, POINTER(MODULEENTRY32W))

ReadProcessMemory = _Plain(
    "kernel32",
    "ReadProcessMemory",
    _BOOL,
    _HANDLE,
    c_size_t,
    c_void_p,
    c_size_t,
    POINTER(c_size_t),
)
VirtualQueryEx = _Plain(
    "kernel32",
    "VirtualQueryEx",
    c_size_t,
    _HANDLE,
    c_size_t,
    POINTER(MEMORY_BASIC_INFORMATION),
    c_size_t,
)
GetMappedFileNameW = _Plain(
    "kernel32", "K32GetMappedFileNameW", _DWORD, _HANDLE, c_size_t, c_wchar_p, _DWORD
)
GlobalMemoryStatusEx = _Function("kernel32", "GlobalMemoryStatusEx", _BOOL, POINTER(MEMORYSTATUSEX))

DebugActiveProcess = _Function("kernel32", "DebugActiveProcess", _BOOL, _DWORD)
DebugActiveProcessStop = _Function("kernel32", "DebugActiveProcessStop", _BOOL, _DWORD)
DebugSetProcessKillOnExit = _Function("kernel32", "DebugSetProcessKillOnExit", _BOOL, _BOOL)
WaitForDebugEvent = _Function("kernel32", "WaitForDebugEvent", _BOOL, POINTER(DEBUG_EVENT), _DWORD)
DbgUiConnectToDbg = _Status("ntdll", "DbgUiConnectToDbg", c_int32)
CheckRemoteDebuggerPresent = _Function(
    "kernel32", "CheckRemoteDebuggerPresent", _BOOL, _HANDLE, POINTER(c_int32)
)
GetThreadContext = _Function("kernel32", "GetThreadContext", _BOOL, _HANDLE, c_void_p)
GetThreadDescription = _Status(
    "kernel32", "GetThreadDescription", c_int32, _HANDLE, POINTER(c_void_p)
)
LocalFree = _Plain("kernel32", "LocalFree", c_void_p, c_void_p)
VirtualAlloc = _Function("kernel32", "VirtualAlloc", c_void_p, c_void_p, c_size_t, _DWORD, _DWORD)
VirtualFree = _Function("kernel32", "VirtualFree", _BOOL, c_void_p, c_size_t, _DWORD)
NtQueryInformationProcess = _Status(
    "ntdll",
    "NtQueryInformationProcess",
    c_int32,
    _HANDLE,
    c_uint32,
    c_void_p,
    c_uint32,
    POINTER(c_uint32),
)
NtQueryInformationThread = _Status(
    "ntdll",
    "NtQueryInformationThread",
    c_int32,
    _HANDLE,
    c_uint32,
    c_void_p,
    c_uint32,
    POINTER(c_uint32),
)

CreateFileW = _Function(
    "kernel32",
    "CreateFileW",
    _HANDLE,
    c_wchar_p,
    _DWORD,
    _DWORD,
    POINTER(SECURITY_ATTRIBUTES),
    _DWORD,
    _DWORD,
    _HANDLE,
)
SetFileInformationByHandle = _Function(
    "kernel32", "SetFileInformationByHandle", _BOOL, _HANDLE, c_uint32, c_void_p, _DWORD
)
GetFileInformationByHandleEx = _Function(
    "kernel32", "GetFileInformationByHandleEx", _BOOL, _HANDLE, c_uint32, c_void_p, _DWORD
)
ConvertStringSecurityDescriptor = _Function(
    "advapi32",
    "ConvertStringSecurityDescriptorToSecurityDescriptorW",
    _BOOL,
    c_wchar_p,
    _DWORD,
    POINTER(c_void_p),
    c_void_p,
)

OpenProcessToken = _Function(
    "advapi32", "OpenProcessToken", _BOOL, _HANDLE, _DWORD, POINTER(c_void_p)
)
LookupPrivilegeValueW = _Function(
    "advapi32", "LookupPrivilegeValueW", _BOOL, c_wchar_p, c_wchar_p, c_void_p
)
AdjustTokenPrivileges = _Function(
    "advapi32",
    "AdjustTokenPrivileges",
    _BOOL,
    _HANDLE,
    _BOOL,
    POINTER(TOKEN_PRIVILEGES),
    _DWORD,
    c_void_p,
    c_void_p,
)

CommandLineToArgvW = _Function(
    "shell32", "CommandLineToArgvW", c_void_p, c_wchar_p, POINTER(c_int32)
)
GetSystemInfo = _Plain("kernel32", "GetSystemInfo", None, POINTER(SYSTEM_INFO))
RtlGetVersion = _Status("ntdll", "RtlGetVersion", c_int32, POINTER(OSVERSIONINFOEXW))
GetProcessTimes = _Function(
    "kernel32", "GetProcessTimes", _BOOL, _HANDLE, *(POINTER(c_uint64),) * 4
)
GetFileVersionInfoSizeW = _Plain(
    "version", "GetFileVersionInfoSizeW", _DWORD, c_wchar_p, POINTER(c_uint32)
)
GetFileVersionInfoW = _Function(
    "version", "GetFileVersionInfoW", _BOOL, c_wchar_p, _DWORD, _DWORD, c_void_p
)
VerQueryValueW = _Function(
    "version",
    "VerQueryValueW",
    _BOOL,
    c_void_p,
    c_wchar_p,
    POINTER(c_void_p),
    POINTER(c_uint32),
)
