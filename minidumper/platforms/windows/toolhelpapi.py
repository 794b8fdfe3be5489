"""Toolhelp snapshots; toolhelp.py reads them.

https://learn.microsoft.com/windows/win32/toolhelp/about-tool-help-functions
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_int32, c_size_t, c_uint16, c_uint32, c_void_p

from .win32 import BOOL, DWORD, HANDLE, Function, Plain

# tlhelp32.h
TH32CS_SNAPPROCESS = 2
TH32CS_SNAPTHREAD = 4
TH32CS_SNAPMODULE = 8
TH32CS_SNAPMODULE32 = 0x10
MAX_PATH = 260  # minwindef.h


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


CreateToolhelp32Snapshot = Function("kernel32", "CreateToolhelp32Snapshot", HANDLE, DWORD, DWORD)
Process32FirstW = Plain("kernel32", "Process32FirstW", BOOL, HANDLE, POINTER(PROCESSENTRY32W))
Process32NextW = Plain("kernel32", "Process32NextW", BOOL, HANDLE, POINTER(PROCESSENTRY32W))
Thread32First = Plain("kernel32", "Thread32First", BOOL, HANDLE, POINTER(THREADENTRY32))
Thread32Next = Plain("kernel32", "Thread32Next", BOOL, HANDLE, POINTER(THREADENTRY32))
Module32FirstW = Plain("kernel32", "Module32FirstW", BOOL, HANDLE, POINTER(MODULEENTRY32W))
Module32NextW = Plain("kernel32", "Module32NextW", BOOL, HANDLE, POINTER(MODULEENTRY32W))
