"""What a capture asks of Windows."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, sizeof
from typing import TYPE_CHECKING, cast

from ...target import LiveTarget
from . import memoryapi
from .output import OutputFile, free_space, output_error
from .snapshotapi import PssCaptureSnapshot

if TYPE_CHECKING:
    from .process import WindowsProcess
    from .snapshot import WindowsSnapshot


class WindowsBackend:
    """Files and limits."""

    sequential = True
    output_error = staticmethod(output_error)
    free_space = staticmethod(free_space)

    def output(self, path: str, *, overwrite: bool) -> OutputFile:
        """A file that appears only when it is whole."""
        return OutputFile(path, overwrite=overwrite)

    def prepare_snapshot(self, target: LiveTarget) -> Callable[[], WindowsSnapshot] | None:
        """What takes a snapshot inside `stopped()`; None on a Windows that has none (Wine)."""
        from .snapshot import WindowsSnapshot

        if not PssCaptureSnapshot.exists:
            return None
        return lambda: WindowsSnapshot(cast("WindowsProcess", target))

    def free_memory(self) -> tuple[int, str]:
        """Bytes that a copy may take, and whose limit that is."""
        status = memoryapi.MEMORYSTATUSEX(dwLength=sizeof(memoryapi.MEMORYSTATUSEX))
        memoryapi.GlobalMemoryStatusEx(byref(status))
        return min(
            (status.ullAvailPhys, "the free memory of this machine"),
            (status.ullAvailPageFile, "the commit limit"),
        )
