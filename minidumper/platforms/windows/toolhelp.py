"""What a toolhelp snapshot tells: the processes of the machine, threads and modules of one.

https://learn.microsoft.com/windows/win32/toolhelp/about-tool-help-functions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import Structure, byref, sizeof
from typing import Any, NamedTuple

from ...errors import NativeCallError
from . import toolhelpapi as api
from . import win32

_BAD_LENGTH = 24  # ERROR_BAD_LENGTH, winerror.h: the modules changed while they were listed
_ATTEMPTS = 20


class Module(NamedTuple):
    """A loaded module; [base, end) is its image."""

    path: str
    base: int
    end: int


def processes() -> Iterator[tuple[int, str]]:
    """Pid and name of every process."""
    with _snapshot(api.TH32CS_SNAPPROCESS, 0) as handle:
        for entry in _entries(
            handle,
            api.PROCESSENTRY32W(),
            api.Process32FirstW,
            api.Process32NextW,
        ):
            yield entry.th32ProcessID, win32.text(entry.szExeFile)


def threads(pid: int) -> list[int]:
    """The ids of a process's threads, in the system's order: the oldest first."""
    with _snapshot(api.TH32CS_SNAPTHREAD, 0) as handle:
        return [
            entry.th32ThreadID
            for entry in _entries(
                handle,
                api.THREADENTRY32(),
                api.Thread32First,
                api.Thread32Next,
            )
            if entry.th32OwnerProcessID == pid
        ]


def modules(pid: int) -> list[Module]:
    """The modules that the loader of a process lists."""
    flags = api.TH32CS_SNAPMODULE | api.TH32CS_SNAPMODULE32
    with _snapshot(flags, pid) as handle:
        return [
            Module(
                win32.text(entry.szExePath),
                entry.modBaseAddr,
                entry.modBaseAddr + entry.modBaseSize,
            )
            for entry in _entries(
                handle,
                api.MODULEENTRY32W(),
                api.Module32FirstW,
                api.Module32NextW,
            )
        ]


@contextmanager
def _snapshot(flags: int, pid: int) -> Iterator[int]:
    for attempt in range(_ATTEMPTS):
        try:
            handle = api.CreateToolhelp32Snapshot(flags, pid)
            break
        except NativeCallError as err:
            if err.code != _BAD_LENGTH or attempt == _ATTEMPTS - 1:
                raise
    try:
        yield handle
    finally:
        win32.CloseHandle(handle)


def _entries(
    handle: int, entry: Structure, first: Callable[..., Any], following: Callable[..., Any]
) -> Iterator[Any]:
    """The entries of a snapshot; each is valid until the next."""
    entry.dwSize = sizeof(entry)
    found = first(handle, byref(entry))
    while found:
        yield entry
        found = following(handle, byref(entry))
