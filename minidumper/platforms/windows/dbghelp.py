"""Microsoft's dbghelp, loaded by its full path, never by search."""

from __future__ import annotations

import ctypes
import ntpath
from contextlib import suppress
from ctypes import byref
from functools import cache
from typing import Any

from ...dbghelp import (
    MINI_DUMP_WRITE_DUMP,
    MINIDUMP_EXCEPTION_INFORMATION,
    MINIDUMP_USER_STREAM_INFORMATION,
    CallbackHandler,
    MiniDumpCallback,
)
from ...errors import CaptureError
from . import win32

_LOAD_WITH_ALTERED_SEARCH_PATH = 8  # libloaderapi.h: what it imports is looked for beside it
_SYSTEM_PATH_SIZE = 1024


def write_dump(
    library: str,
    handle: int,
    pid: int,
    flags: int,
    handler: CallbackHandler,
    *,
    streams: MINIDUMP_USER_STREAM_INFORMATION | None = None,
    exception: MINIDUMP_EXCEPTION_INFORMATION | None = None,
) -> None:
    """Call MiniDumpWriteDump without a file: `handler` takes over the writing.

    `library` is the path of a dbghelp.dll, "" for the system's.

    Raises:
        CaptureError: dbghelp cannot be loaded.
        NativeCallError: it failed; `code` is the HRESULT.
        BaseException: what the handler raised.
    """
    function = _function(library or system_dbghelp())
    callback = MiniDumpCallback(handler)
    done = function(
        handle,
        pid,
        None,
        flags,
        byref(exception) if exception else None,
        byref(streams) if streams else None,
        byref(callback.information),
    )
    code = win32.last_error()
    callback.check()
    if not done:
        raise win32.failure(MINI_DUMP_WRITE_DUMP.name, code)


def system_dbghelp() -> str:
    """The dbghelp.dll of the system's own folder."""
    buffer = ctypes.create_unicode_buffer(_SYSTEM_PATH_SIZE)
    win32.GetSystemDirectoryW(buffer, _SYSTEM_PATH_SIZE)
    return ntpath.join(buffer.value, "dbghelp.dll")


@cache
def _function(path: str) -> Any:
    if not ntpath.isabs(path):
        raise CaptureError(
            f"{path} is no full path", stage="dbghelp", hint="give the full path of dbghelp.dll"
        )
    core = ntpath.join(ntpath.dirname(path), "dbgcore.dll")
    # Newer versions forward the function to dbgcore, which GetProcAddress does not load; those
    # before Windows 10 have none.
    with suppress(OSError):
        win32.library(core, _LOAD_WITH_ALTERED_SEARCH_PATH)
    try:
        function = getattr(
            win32.library(path, _LOAD_WITH_ALTERED_SEARCH_PATH), MINI_DUMP_WRITE_DUMP.name
        )
    except (OSError, AttributeError) as err:
        raise CaptureError(
            f"cannot use {path}: {err}",
            stage="dbghelp",
            hint="give another with --dbghelp, or use --writer native",
        ) from err
    function.restype = MINI_DUMP_WRITE_DUMP.restype
    function.argtypes = MINI_DUMP_WRITE_DUMP.argtypes
    return function
