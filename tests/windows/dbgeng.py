"""Microsoft's debugger engine, which WinDbg is made of: runs commands on a dump.

https://learn.microsoft.com/windows-hardware/drivers/debugger/debugger-engine-reference
"""

from __future__ import annotations

import ctypes
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int32, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from .programs import DEBUGGERS

_CLIENT = uuid.UUID("27fe5639-8407-4f47-8364-ee118fb08ac8")
_CONTROL = uuid.UUID("5182e668-105e-416e-ad92-24ef800424ba")
# Slots of IUnknown, IDebugClient and IDebugControl, dbgeng.h.
_QUERY_INTERFACE, _RELEASE = 0, 2
_OPEN_DUMP_FILE, _END_SESSION = 19, 26
_OPEN_LOG_FILE, _CLOSE_LOG_FILE, _EXECUTE, _WAIT_FOR_EVENT = 8, 9, 66, 93
_OUTPUT_LOG_ONLY = 4  # DEBUG_OUTCTL_LOG_ONLY
_END_PASSIVE = 0  # DEBUG_END_PASSIVE
_WAIT_MS = 60_000
_WITH_ALTERED_SEARCH_PATH = 8  # LOAD_WITH_ALTERED_SEARCH_PATH, libloaderapi.h


class _Interface:
    """A COM interface pointer; a failed call raises OSError."""

    def __init__(self, pointer: c_void_p) -> None:
        self._pointer = pointer

    def call(self, slot: int, types: tuple[Any, ...], *arguments: Any) -> None:
        """Call the method at `slot`."""
        table = ctypes.cast(self._pointer, POINTER(POINTER(c_void_p))).contents
        prototype = vars(ctypes)["WINFUNCTYPE"](c_int32, c_void_p, *types)
        status = prototype(table[slot])(self._pointer, *arguments)
        if status < 0:
            raise OSError(f"slot {slot}: 0x{status & 0xFFFFFFFF:08x}")

    def query(self, iid: uuid.UUID) -> _Interface:
        """Another interface of the same object."""
        found = c_void_p()
        self.call(_QUERY_INTERFACE, (c_char_p, c_void_p), iid.bytes_le, byref(found))
        return _Interface(found)


class Debugger:
    """An open dump."""

    def __init__(self, control: _Interface, log: Path) -> None:
        self._control = control
        self._log = log

    def run(self, command: str) -> str:
        """What a command prints."""
        self._control.call(_OPEN_LOG_FILE, (c_char_p, c_int32), bytes(self._log), False)
        try:
            self._control.call(
                _EXECUTE,
                (c_uint32, c_char_p, c_uint32),
                *(_OUTPUT_LOG_ONLY, command.encode(), 0),
            )
        finally:
            self._control.call(_CLOSE_LOG_FILE, ())
        return self._log.read_text(encoding="utf-8", errors="replace")


@cache
def load() -> Any:
    """The engine's library, which makes a window: for the first one Wine starts its explorer."""
    vars(ctypes)["WinDLL"]("user32").GetDesktopWindow()
    path = os.path.join(os.environ[DEBUGGERS], "dbgeng.dll")
    return vars(ctypes)["WinDLL"](path, winmode=_WITH_ALTERED_SEARCH_PATH)


@contextmanager
def opened(dump: Path, log: Path) -> Iterator[Debugger]:
    """A dump in the engine; `log` is a file for its output."""
    library = load()
    pointer = c_void_p()
    status = library.DebugCreate(_CLIENT.bytes_le, byref(pointer))
    assert status == 0, f"DebugCreate: 0x{status & 0xFFFFFFFF:08x}"
    client = _Interface(pointer)
    control = client.query(_CONTROL)
    client.call(_OPEN_DUMP_FILE, (c_char_p,), bytes(dump))
    try:
        control.call(_WAIT_FOR_EVENT, (c_uint32, c_uint32), 0, _WAIT_MS)
        yield Debugger(control, log)
    finally:
        client.call(_END_SESSION, (c_uint32,), _END_PASSIVE)
        control.call(_RELEASE, ())
        client.call(_RELEASE, ())
