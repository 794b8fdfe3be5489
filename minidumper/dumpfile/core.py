"""An ELF core as a Target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..formats.context import amd64_context, user_regs
from ..formats.elfcore import LoadSegment, protection_of, read_core
from ..formats.elfnotes import NT_FPREGSET, NT_PRSTATUS, CoreThread, MappedFile
from ..ranges import MemoryRange
from ..target import ModuleInfo, ThreadInfo, VmRegion
from .base import DumpBytes, DumpFile

_UNKNOWN_INODE = 1
"""A core does not tell the inode of a mapped file; this says that there is one."""


class CoreFile(DumpFile):
    """An ELF core of Linux."""

    def __init__(self, path: str, file: DumpBytes) -> None:
        core = read_core(file)
        super().__init__(path, file, [(s.start, s.end, s.offset) for s in core.segments])
        self.process = core.notes.process
        self.note = core.notes.own
        self.auxv = core.notes.auxv
        self._notes = core.notes
        self._loads = core.segments

    @property
    def pid(self) -> int:
        """The process id, as the process's own system had it; 0 where it is not known."""
        if self.process:
            return self.process.pid
        return self._notes.threads[0].tid if self._notes.threads else 0

    def regions(self) -> Sequence[VmRegion]:
        """The memory that the file holds, cut where the mapped file changes."""
        return list(_regions(self._loads, self._notes.files))

    def threads(self) -> Sequence[ThreadInfo]:
        """All threads in the file's order, which has the main thread first."""
        return [_thread_info(thread) for thread in self._notes.threads]

    def modules(self) -> Sequence[ModuleInfo]:
        """Files mapped from their first byte, each path once, sorted by base."""
        found: dict[str, ModuleInfo] = {}
        for start, end, offset, path in sorted(self._notes.files):
            if path in found:
                found[path] = found[path]._replace(end=max(end, found[path].end))
            elif offset == 0:
                found[path] = ModuleInfo(path, start, end)
        return list(found.values())

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """Nothing: a core does not tell which pages differ from the mapped file."""
        return ()


def _thread_info(thread: CoreThread) -> ThreadInfo:
    regs = user_regs(thread.regsets[NT_PRSTATUS])
    return ThreadInfo(
        tid=thread.tid,
        ip=regs["rip"],
        sp=regs["rsp"],
        context=amd64_context(thread.regsets[NT_PRSTATUS], thread.regsets.get(NT_FPREGSET, b"")),
        regsets=thread.regsets,
        siginfo=thread.siginfo,
        signal=thread.signal,
    )


def _regions(segments: Sequence[LoadSegment], files: Sequence[MappedFile]) -> Iterator[VmRegion]:
    """Segments cut at the edges of mapped files, which other writers may let overlap."""
    mapped = sorted(files)
    first = 0
    for start, end, flags, _ in segments:
        protection = protection_of(flags)
        while first < len(mapped) and mapped[first].end <= start:
            first += 1
        index = first
        while start < end:
            while index < len(mapped) and mapped[index].end <= start:
                index += 1
            if index == len(mapped) or mapped[index].start >= end:
                yield VmRegion(start, end, protection)
                break
            file = mapped[index]
            if start < file.start:
                yield VmRegion(start, file.start, protection)
                start = file.start
            stop = min(end, file.end)
            yield VmRegion(
                *(start, stop, protection),
                offset=file.offset + start - file.start,
                path=file.path,
                inode=_UNKNOWN_INODE,
            )
            start = stop
