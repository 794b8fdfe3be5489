"""An ELF core as a Target."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..errors import MemoryFaultError
from ..formats.context import amd64_context, user_regs
from ..formats.elfcore import (
    SPECIAL_DIAG_INFO_ADDRESS,
    LoadSegment,
    protection_of,
    read_core,
)
from ..formats.elfimage import read_image
from ..formats.elfnotes import NT_FPREGSET, NT_PRSTATUS, CoreThread, MappedFile
from ..formats.peimage import read_pe
from ..images.core import CoreImage, diagnostics
from ..plan import DumpPlan
from ..ranges import PAGE_SIZE, MemoryRange, page_ceil
from ..target import ModuleInfo, ThreadInfo, VmRegion
from .base import DumpBytes, DumpFile

_AT_ENTRY, _AT_SYSINFO_EHDR = 9, 33  # getauxval(3)
_BRK_RANGE = (1 << 30) + (1 << 20)
"""Bytes by which Linux moves the heap at most (arch_randomize_brk of x86), and room for .bss."""

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
        return [self._named(region) for region in _regions(self._loads, self._notes.files)]

    def _named(self, region: VmRegion) -> VmRegion:
        """With the name that /proc/PID/maps has for it, where the auxiliary vector tells."""
        if region.path:
            return region
        if region.start == self.auxv.get(_AT_SYSINFO_EHDR):
            return region._replace(path="[vdso]")
        if 0 < region.start - self._program_end < _BRK_RANGE and region.protection == "rw-p":
            return region._replace(path="[heap]")
        return region

    @functools.cached_property
    def _program_end(self) -> int:
        """Where the program's mappings end; behind them begins the heap (brk(2))."""
        entry = self.auxv.get(_AT_ENTRY, 0)
        program = next((file for file in self._notes.files if file.start <= entry < file.end), None)
        if program is None:
            return 0
        return max(file.end for file in self._notes.files if file.path == program.path)

    def threads(self) -> Sequence[ThreadInfo]:
        """All threads in the file's order, which has the main thread first."""
        return [_thread_info(thread) for thread in self._notes.threads]

    def modules(self) -> Sequence[ModuleInfo]:
        """The first image of each path, sorted by base."""
        found: dict[str, ModuleInfo] = {}
        for image in self.images():
            found.setdefault(image.path, image)
        return list(found.values())

    def images(self) -> Sequence[ModuleInfo]:
        """Files mapped from their first byte, sorted by base.

        .NET maps a .dll as a file, too, far from its image: what lies between is no part of either.
        """
        found: list[ModuleInfo] = []
        newest: dict[str, tuple[int, int]] = {}  # of each path: its index, and where it may end
        for start, end, offset, path in sorted(self._notes.files):
            index, limit = newest.get(path, (0, 0))
            if start < limit or (offset and path in newest and start <= found[index].end):
                found[index] = found[index]._replace(end=max(end, found[index].end))
            elif offset == 0:
                newest[path] = len(found), self._image_end(start, end)
                found.append(ModuleInfo(path, start, end))
        return found

    def _image_end(self, start: int, end: int) -> int:
        """Where the image ends by its headers, of which `end` is the first mapping's."""
        with suppress(MemoryFaultError):
            pe = read_pe(self.memory.read, start)
            if pe:  # as a file it is mapped in one piece, of an image the headers come first
                return start + pe.size if end <= page_ceil(start + pe.headers_size) else end
            elf = read_image(self.memory.read, start)
            if elf:
                return elf.span.end
        return end

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """The region, where it can be written: a core does not tell which pages were."""
        return [MemoryRange(region.start, region.end)] if region.protection[1] == "w" else []

    def image(self, plan: DumpPlan, *, runtime_base: int) -> CoreImage:
        """Lay out a core that holds less of the same memory."""
        try:
            page = self.memory.read(SPECIAL_DIAG_INFO_ADDRESS, PAGE_SIZE)
        except MemoryFaultError:
            page = diagnostics(runtime_base, None)
        notes = dataclasses.replace(self._notes, own=None)
        comment = (self.note or {}).get("comment")
        return CoreImage(
            self,
            plan,
            self.regions(),
            notes,
            diagnostics=page,
            comment=comment if isinstance(comment, str) else "",
        )


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
