"""The processes that a name can mean."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import MemoryFaultError, NativeCallError
from ..finding import Candidate, candidate
from . import commandline, toolhelp, win32
from .memory import ProcessMemory


def candidates() -> Iterator[Candidate]:
    """All processes but this one; of those that we may not open, the name alone."""
    for pid, name in toolhelp.processes():
        if pid and pid != os.getpid():
            yield candidate(pid, name, arguments_of(pid))


def arguments_of(pid: int) -> list[str]:
    """The command line of a process, nothing where it cannot be seen."""
    access = win32.PROCESS_QUERY_INFORMATION | win32.PROCESS_VM_READ
    try:
        handle = win32.OpenProcess(access, False, pid)
    except NativeCallError:
        return []
    try:
        line = commandline.command_line(handle, ProcessMemory(pid, handle).read)
        return commandline.split(line)
    except (NativeCallError, MemoryFaultError):
        return []
    finally:
        win32.CloseHandle(handle)
