"""Snapshots of processes, from Windows 8.1 and Server 2012 R2 on (processsnapshot.h)."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_size_t, c_void_p
from typing import Any

from .win32 import DWORD, HANDLE, Function, failure

# https://learn.microsoft.com/windows/win32/api/processsnapshot/ne-processsnapshot-pss_capture_flags
PSS_CAPTURE_VA_CLONE = 0x0000_0001
PSS_CAPTURE_HANDLES = 0x0000_0004
PSS_CAPTURE_HANDLE_NAME_INFORMATION = 0x0000_0008
PSS_CAPTURE_HANDLE_BASIC_INFORMATION = 0x0000_0010
PSS_CAPTURE_HANDLE_TYPE_SPECIFIC_INFORMATION = 0x0000_0020
PSS_CAPTURE_THREADS = 0x0000_0080
PSS_CAPTURE_THREAD_CONTEXT = 0x0000_0100
PSS_CAPTURE_VA_SPACE = 0x0000_0800
PSS_CAPTURE_VA_SPACE_SECTION_INFORMATION = 0x0000_1000
PSS_CREATE_BREAKAWAY_OPTIONAL = 0x0400_0000
PSS_CREATE_BREAKAWAY = 0x0800_0000

PROCESS_ALL_ACCESS = 0x001F_FFFF  # winnt.h

PSS_VA_CLONE_INFORMATION_CLASS = 1
"""PSS_QUERY_VA_CLONE_INFORMATION.

https://learn.microsoft.com/windows/win32/api/processsnapshot/ne-processsnapshot-pss_query_information_class
"""


class PSS_VA_CLONE_INFORMATION(Structure):
    """The process that holds the cloned memory.

    https://learn.microsoft.com/windows/win32/api/processsnapshot/ns-processsnapshot-pss_va_clone_information
    """

    _fields_ = (("VaCloneHandle", c_size_t),)


class _Code(Function):
    """A function that returns an error code, and 0 for success."""

    def _check(self, result: Any, function: Any, arguments: Any) -> Any:
        if result:
            raise failure(self._name, result)
        return result


# https://learn.microsoft.com/windows/win32/api/processsnapshot/ has a page for each.
PssCaptureSnapshot = _Code(
    "kernel32", "PssCaptureSnapshot", DWORD, HANDLE, DWORD, DWORD, POINTER(c_void_p)
)
PssQuerySnapshot = _Code("kernel32", "PssQuerySnapshot", DWORD, c_void_p, DWORD, c_void_p, DWORD)
PssFreeSnapshot = _Code("kernel32", "PssFreeSnapshot", DWORD, HANDLE, c_void_p)
