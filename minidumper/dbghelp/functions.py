"""What the functions of dbghelp.dll take and give, for whoever loads it."""

from __future__ import annotations

from ctypes import POINTER, c_int32, c_uint32, c_void_p
from typing import Any, NamedTuple

from .callbacks import (
    MINIDUMP_CALLBACK_INFORMATION,
    MINIDUMP_EXCEPTION_INFORMATION,
    MINIDUMP_USER_STREAM_INFORMATION,
)
from .streams import MINIDUMP_DIRECTORY


class Prototype(NamedTuple):
    """A function's name and types; a result of 0 is a failure, GetLastError() an HRESULT."""

    name: str
    restype: Any
    argtypes: tuple[Any, ...]


MINI_DUMP_WRITE_DUMP = Prototype(
    "MiniDumpWriteDump",
    c_int32,
    (
        c_void_p,  # hProcess
        c_uint32,  # ProcessId
        c_void_p,  # hFile
        c_uint32,  # DumpType
        POINTER(MINIDUMP_EXCEPTION_INFORMATION),
        POINTER(MINIDUMP_USER_STREAM_INFORMATION),
        POINTER(MINIDUMP_CALLBACK_INFORMATION),
    ),
)
"""https://learn.microsoft.com/windows/win32/api/minidumpapiset/nf-minidumpapiset-minidumpwritedump"""

MINI_DUMP_READ_DUMP_STREAM = Prototype(
    "MiniDumpReadDumpStream",
    c_int32,
    (
        c_void_p,  # BaseOfDump
        c_uint32,  # StreamNumber
        POINTER(POINTER(MINIDUMP_DIRECTORY)),
        POINTER(c_void_p),  # StreamPointer
        POINTER(c_uint32),  # StreamSize
    ),
)
"""https://learn.microsoft.com/windows/win32/api/minidumpapiset/nf-minidumpapiset-minidumpreaddumpstream"""
