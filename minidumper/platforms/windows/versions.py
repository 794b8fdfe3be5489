"""The version in a file's resources."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint32, c_void_p, sizeof

from ...dbghelp import VS_FIXEDFILEINFO
from ...errors import NativeCallError
from . import win32


def fixed_file_info(path: str) -> bytes:
    """The VS_FIXEDFILEINFO of a file, nothing where it has none or cannot be read."""
    size = win32.GetFileVersionInfoSizeW(path, None)
    if not size:
        return b""
    buffer = ctypes.create_string_buffer(size)
    found, length = c_void_p(), c_uint32()
    try:
        win32.GetFileVersionInfoW(path, 0, size, buffer)
        win32.VerQueryValueW(buffer, "\\", byref(found), byref(length))
    except NativeCallError:
        return b""
    if not found.value or length.value < sizeof(VS_FIXEDFILEINFO):
        return b""
    return ctypes.string_at(found.value, sizeof(VS_FIXEDFILEINFO))
