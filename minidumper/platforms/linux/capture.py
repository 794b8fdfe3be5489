"""An ELF core of a held process: what goes where, then its bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import MemoryFaultError, TargetExitedError
from ...formats.elf import PF_R
from ...formats.elfcore import (
    SPECIAL_DIAG_INFO_ADDRESS,
    CoreLayout,
    flags_of,
    layout,
    special_diag_info,
)
from ...formats.elfnotes import CoreNotes, CoreThread, MappedFile, ProcessInfo
from ...plan import CaptureWarning, DumpPlan
from ...ranges import PAGE_SIZE, MemoryRange, Reason, joined
from ...report import ExceptionInfo
from ...target import ThreadInfo, VmRegion
from . import procfs
from .copying import MemoryCopy, PageSource, Piece, Progress, copy_pieces

if TYPE_CHECKING:
    from .process import LinuxProcess

MAX_LOAD_SEGMENTS = 8_000
"""ClrMD opens at most 10,000 program headers (DataTargetLimits.MaxElfProgramHeaders)."""

# EXCEPTION_RECORD of 64 bits, winnt.h: code, flags, inner record, address, number of parameters,
# 15 parameters. A managed exception's first parameter is its HRESULT, as the runtime raises it.
_EXCEPTION_RECORD = struct.Struct("<IIQQI4xQ112x")

_RECORD_OFFSET = 64  # in the page of diagnostics, behind all that it says itself
_SPARE = 64 << 10  # bytes kept free for what the own note learns while copying


class CoreImage:
    """A core to be: prepared while the target is held, written then or, from a copy, later."""

    def __init__(
        self,
        process: LinuxProcess,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        *,
        runtime_base: int,
        exception: ExceptionInfo | None,
    ) -> None:
        self.warnings: list[CaptureWarning] = []
        self._process = process
        self._plan = plan
        self._notes = _notes(process, regions, threads)
        segments = _load_segments(joined(plan.ranges), regions)
        self._diagnostics = _diagnostics(runtime_base, exception)
        page = (SPECIAL_DIAG_INFO_ADDRESS, SPECIAL_DIAG_INFO_ADDRESS + PAGE_SIZE, PF_R)
        if all(end <= page[0] or start >= page[1] for start, end, _ in segments):
            segments = sorted([*segments, page])
        self._layout: CoreLayout = layout(self._notes, segments, spare=_SPARE)
        self.pieces = list(_pieces(process, regions, self._layout))
        self.file_size = self._layout.file_size
        """Apparent bytes of the file."""
        self.data_size = sum(piece.size for piece in self.pieces)
        """Bytes of memory to copy."""

    def copy(self, source: PageSource) -> MemoryCopy:
        """The memory of this core taken into our own.

        Raises:
            MemoryFaultError: GC heap memory cannot be read.
        """
        return MemoryCopy(source, self.pieces, self._failed)

    def write(self, source: PageSource, descriptor: int, progress: Progress | None = None) -> None:
        """Write all but the own note.

        Raises:
            OSError: the file cannot be written.
            MemoryFaultError: GC heap memory cannot be read.
            TargetExitedError: the process ended meanwhile.
        """
        os.pwrite(descriptor, self._layout.header, 0)
        os.ftruncate(descriptor, self.file_size)
        for segment in self._layout.segments:
            if segment.start == SPECIAL_DIAG_INFO_ADDRESS:
                os.pwrite(descriptor, self._diagnostics, segment.offset)
        copy_pieces(source, self.pieces, descriptor, failed=self._failed, progress=progress)

    def seal(self, descriptor: int, own: Mapping[str, object]) -> None:
        """Write the own note, once all is known that it tells."""
        comment = self._process.comment
        notes = CoreNotes(
            process=self._notes.process,
            auxv=self._notes.auxv,
            files=self._notes.files,
            threads=self._notes.threads,
            own=({"comment": comment} if comment else {}) | dict(own),
        )
        os.pwrite(descriptor, self._layout.with_notes(notes).header, 0)

    def _failed(self, address: int, size: int) -> None:
        """Judge bytes that could not be read: the GC heap is hard, the rest a warning."""
        if self._process.has_ended():
            pid = self._process.pid
            raise TargetExitedError(f"process {pid} ended while it was being dumped", pid=pid)
        for start, end, reasons in self._plan.ranges:
            if start < address + size and address < end and reasons & Reason.GC_HEAP:
                raise MemoryFaultError(
                    f"GC heap memory at 0x{address:x} ({size} bytes) cannot be read",
                    address=address,
                    size=size,
                )
        self.warnings.append(
            CaptureWarning("copy", f"{size} bytes at 0x{address:x} cannot be read", address)
        )


def _diagnostics(runtime_base: int, exception: ExceptionInfo | None) -> bytes:
    """The page for readers; with the record of a managed exception as the runtime would raise it.

    A signal has its own record, NT_SIGINFO.
    """
    if exception is None or not exception.address:
        return special_diag_info(runtime_base=runtime_base)
    where = SPECIAL_DIAG_INFO_ADDRESS + _RECORD_OFFSET
    page = special_diag_info(runtime_base=runtime_base, exception_record=where)
    hresult = exception.hresult & 0xFFFFFFFFFFFFFFFF
    record = _EXCEPTION_RECORD.pack(int(exception.code, 16), 0, 0, 0, 1, hresult)
    return page[:_RECORD_OFFSET] + record + page[_RECORD_OFFSET + len(record) :]


def _notes(
    process: LinuxProcess, regions: Sequence[VmRegion], threads: Sequence[ThreadInfo]
) -> CoreNotes:
    status = process.status
    return CoreNotes(
        process=ProcessInfo(
            pid=status.namespace_pid,  # as the threads' ids are, see LinuxProcess
            ppid=status.ppid,
            uid=status.uid,
            gid=status.gid,
            name=status.name,
            args=" ".join(process.arguments()),
        ),
        auxv=procfs.parse_auxv(process.auxv()),
        files=[MappedFile(r.start, r.end, r.offset, r.file_path) for r in regions if r.file_path],
        threads=[CoreThread(t.tid, t.regsets, t.siginfo, t.signal) for t in threads],
    )


def _load_segments(
    ranges: Sequence[MemoryRange], regions: Sequence[VmRegion]
) -> list[tuple[int, int, int]]:
    """(start, end, PF_* flags), one for each mapping unless that makes too many.

    Joined, a stack would lose its end to the mapping above it.
    """
    out: list[tuple[int, int, int]] = []
    first = 0
    for start, end in ranges:
        while first < len(regions) and regions[first].end <= start:
            first += 1
        index = first
        while index < len(regions) and regions[index].start < end:
            region = regions[index]
            low, high = max(start, region.start), min(end, region.end)
            out.append((low, high, flags_of(region.protection)))
            index += 1
    if len(out) < MAX_LOAD_SEGMENTS:
        return out
    merged: list[tuple[int, int, int]] = []
    for low, high, flags in out:
        if merged and merged[-1][1] == low:
            merged[-1] = (merged[-1][0], high, merged[-1][2] | flags)
        else:
            merged.append((low, high, flags))
    return merged


def _pieces(process: LinuxProcess, regions: Sequence[VmRegion], where: CoreLayout) -> list[Piece]:
    """What has to be read; the rest of each segment stays a hole in the file."""
    return [
        Piece(run.start, run.size, offset + run.start - start)
        for start, end, _, offset in where.segments
        for run in process.resident(regions, MemoryRange(start, end))
    ]
