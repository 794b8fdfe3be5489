"""Descriptors that the parent gives to its worker; on Windows, handles."""

from __future__ import annotations

import importlib
from multiprocessing import reduction
from typing import Any

from ..target import MemorySource

_PROCESS_DUP_HANDLE = 0x40  # winnt.h
# Only Windows has it. Its send_handle() asks for an access mask of 2, DUPLICATE_SAME_ACCESS being
# an option (cpython, Lib/multiprocessing/reduction.py), so a process could not be read with that.
_duplicate: Any = getattr(reduction, "duplicate", None)


def handle_of(source: MemorySource) -> int:
    """What the system knows a source by."""
    if _duplicate is None or source.is_process:
        return source.descriptor
    handle: int = importlib.import_module("msvcrt").get_osfhandle(source.descriptor)
    return handle


def give(channel: Any, handle: int, pid: int) -> None:
    """Let process `pid`, at the other end of the connection, have a handle of ours too."""
    if _duplicate is None:
        reduction.send_handle(channel, handle, pid)
        return
    winapi: Any = importlib.import_module("_winapi")
    process = winapi.OpenProcess(_PROCESS_DUP_HANDLE, False, pid)
    try:
        channel.send_bytes(b"%d" % _duplicate(handle, process))  # not send(), which pickles
    finally:
        winapi.CloseHandle(process)


def take(channel: Any) -> int:
    """What `give` gave."""
    if _duplicate is None:
        handle: int = reduction.recv_handle(channel)
        return handle
    return int(channel.recv_bytes())
