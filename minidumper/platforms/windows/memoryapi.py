"""Memory: regions and bytes of processes, and what the machine has."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_size_t, c_uint32, c_uint64, c_void_p, c_wchar_p

from .win32 import BOOL, DWORD, HANDLE, Function, Plain

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


ReadProcessMemory = Plain(
    "kernel32",
    "ReadProcessMemory",
    BOOL,
    HANDLE,
    c_size_t,
    c_void_p,
    c_size_t,
    POINTER(c_size_t),
)
WriteProcessMemory = Function(
    "kernel32",
    "WriteProcessMemory",
    BOOL,
    HANDLE,
    c_size_t,
    c_void_p,
    c_size_t,
    POINTER(c_size_t),
)
VirtualQueryEx = Plain(
    "kernel32",
    "VirtualQueryEx",
    c_size_t,
    HANDLE,
    c_size_t,
    POINTER(MEMORY_BASIC_INFORMATION),
    c_size_t,
)
GetMappedFileNameW = Plain(
    "kernel32", "K32GetMappedFileNameW", DWORD, HANDLE, c_size_t, c_wchar_p, DWORD
)
GlobalMemoryStatusEx = Function("kernel32", "GlobalMemoryStatusEx", BOOL, POINTER(MEMORYSTATUSEX))
VirtualAlloc = Function("kernel32", "VirtualAlloc", c_void_p, c_void_p, c_size_t, DWORD, DWORD)
VirtualFree = Function("kernel32", "VirtualFree", BOOL, c_void_p, c_size_t, DWORD)
