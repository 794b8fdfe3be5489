"""Files, and who may read them."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_int32, c_uint8, c_uint32, c_uint64, c_void_p, c_wchar_p

from .win32 import BOOL, DWORD, HANDLE, Function, Plain

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


CreateFileW = Function(
    "kernel32",
    "CreateFileW",
    HANDLE,
    c_wchar_p,
    DWORD,
    DWORD,
    POINTER(SECURITY_ATTRIBUTES),
    DWORD,
    DWORD,
    HANDLE,
)
GetFinalPathNameByHandleW = Plain(
    "kernel32", "GetFinalPathNameByHandleW", DWORD, HANDLE, c_wchar_p, DWORD, DWORD
)
SetFileInformationByHandle = Function(
    "kernel32", "SetFileInformationByHandle", BOOL, HANDLE, c_uint32, c_void_p, DWORD
)
GetFileInformationByHandleEx = Function(
    "kernel32", "GetFileInformationByHandleEx", BOOL, HANDLE, c_uint32, c_void_p, DWORD
)
ConvertStringSecurityDescriptor = Function(
    "advapi32",
    "ConvertStringSecurityDescriptorToSecurityDescriptorW",
    BOOL,
    c_wchar_p,
    DWORD,
    POINTER(c_void_p),
    c_void_p,
)
