"""A snapshot of a held process (PssCaptureSnapshot): a Target that stays as it is while that runs.

No Windows was at hand to run it on, and Wine has none: it is written by Microsoft's pages and their
sample (pssdump.c of 2013), and tested against functions that stand in for the system's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ctypes import byref, c_void_p, sizeof

from ...dbghelp import HOST_BITS
from ...formats.minidump import ExceptionInfo, MinidumpStreams
from ...ranges import MemoryRange, joined, subtract
from ...target import MemorySource, ModuleInfo, ThreadInfo, VmRegion
from ..copies import COPY_LIMIT, Copies, SnapshotMemory
from . import memory, snapshotapi, win32
from .process import WindowsProcess

_FLAGS = (
    snapshotapi.PSS_CAPTURE_VA_CLONE
    | snapshotapi.PSS_CAPTURE_VA_SPACE
    | snapshotapi.PSS_CAPTURE_VA_SPACE_SECTION_INFORMATION
    | snapshotapi.PSS_CAPTURE_HANDLES
    | snapshotapi.PSS_CAPTURE_HANDLE_NAME_INFORMATION
    | snapshotapi.PSS_CAPTURE_HANDLE_BASIC_INFORMATION
    | snapshotapi.PSS_CAPTURE_HANDLE_TYPE_SPECIFIC_INFORMATION
    | snapshotapi.PSS_CAPTURE_THREADS
    | snapshotapi.PSS_CAPTURE_THREAD_CONTEXT
    # The clone is to leave the target's job, where that lets it.
    | snapshotapi.PSS_CREATE_BREAKAWAY
    | snapshotapi.PSS_CREATE_BREAKAWAY_OPTIONAL
)


class WindowsSnapshot(WindowsProcess):
    """The memory of a process as its clone holds it, the rest as it was in the stop."""

    def __init__(self, process: WindowsProcess) -> None:
        """Take it; only inside `process.stopped()`, whose threads may run on afterwards.

        Raises:
            CaptureError: the system gives none.
        """
        self.pid = process.pid
        self.options = process.options
        self._name = process.name
        self._arguments = process.arguments()
        self._held_at = process.held_at
        self._regions = process.regions()
        self._threads = process.threads()
        self._modules = process.modules()
        self._streams = process.streams(self._threads, self._regions)
        with ExitStack() as stack:
            self._snapshot = stack.enter_context(_captured(process.pid))
            self.handle = _clone_of(self._snapshot)
            spans = uncloned(self._regions, list(memory.regions(self.handle)))
            with tempfile.TemporaryFile() as file:
                copies = Copies(process.memory, spans, COPY_LIMIT, os.dup(file.fileno()))
            stack.callback(copies.close)
            self._stack = stack.pop_all()
        self._copies = copies
        self.copied = copies.ranges
        clone = memory.ProcessMemory(self.pid, self.handle)
        self.memory = SnapshotMemory(clone, copies, lambda: None)
        self.warnings = [*process.warnings, *copies.warnings]

    def close(self) -> None:
        """Free the snapshot, which ends the clone, and give the memory back."""
        self._stack.close()

    @property
    def name(self) -> str:
        """The process's name."""
        return self._name

    def arguments(self) -> list[str]:
        """The command line."""
        return self._arguments

    @property
    def exited(self) -> bool:
        """Never: the process may have, and its clone is there."""
        return False

    @property
    def dump_handle(self) -> int:
        """The snapshot: dbghelp takes threads and handles from it, and memory from the clone."""
        return self._snapshot

    @property
    def held_at(self) -> ExceptionInfo | None:
        """The exception that the threads were held at."""
        return self._held_at

    def memory_source(self) -> MemorySource:
        """The clone's memory, and the copies that are read instead of it."""
        return super().memory_source()._replace(copies=self._copies.source())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """A snapshot is stopped all the time."""
        yield

    def regions(self) -> list[VmRegion]:
        """All regions of the process as they were in the stop."""
        return self._regions

    def threads(self) -> list[ThreadInfo]:
        """The threads of the process as they were in the stop."""
        return self._threads

    def modules(self) -> list[ModuleInfo]:
        """The loaded images as they were in the stop."""
        return self._modules

    def streams(
        self, threads: Sequence[ThreadInfo], regions: Sequence[VmRegion]
    ) -> MinidumpStreams:
        """What a dump tells besides memory, as it was in the stop."""
        return self._streams

    def copied_on_write(self) -> None:
        """Windows does not tell it of a clone."""
        return


def uncloned(
    regions: Sequence[VmRegion], clone_regions: Sequence[VmRegion]
) -> Iterator[MemoryRange]:
    """The readable ranges that a clone lacks, or shares with the running process.

    It shares the views of sections: those of the page file, among them the JIT's double-mapped
    code, and of files that the process can write; others are as the file is.
    """
    readable = [region for region in regions if region.readable]
    lacking = subtract(
        [MemoryRange(region.start, region.end) for region in readable],
        joined((region.start, region.end, None) for region in clone_regions if region.readable),
    )
    yield from lacking
    shared = joined(
        (region.start, region.end, None)
        for region in readable
        if region.protection[3] == "s" and (not region.path or region.protection[1] == "w")
    )
    yield from subtract(shared, lacking)


@contextmanager
def _captured(pid: int) -> Iterator[int]:
    """A snapshot of a process, freed in the end."""
    process = win32.OpenProcess(snapshotapi.PROCESS_ALL_ACCESS, False, pid)
    try:
        snapshot = c_void_p()
        snapshotapi.PssCaptureSnapshot(
            process, _FLAGS, win32.CONTEXT_ALL[HOST_BITS], byref(snapshot)
        )
    finally:
        win32.CloseHandle(process)
    try:
        yield snapshot.value or 0
    finally:
        snapshotapi.PssFreeSnapshot(win32.GetCurrentProcess(), snapshot)


def _clone_of(snapshot: int) -> int:
    """The process that holds a snapshot's memory; its handle is the snapshot's."""
    clone = snapshotapi.PSS_VA_CLONE_INFORMATION()
    snapshotapi.PssQuerySnapshot(
        snapshot, snapshotapi.PSS_VA_CLONE_INFORMATION_CLASS, byref(clone), sizeof(clone)
    )
    return int(clone.VaCloneHandle)
