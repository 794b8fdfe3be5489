"""An ELF core of what holds still: what goes where, then its bytes, in the file's order."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter

from ..errors import MemoryFaultError, TargetExitedError
from ..formats.elf import PF_R
from ..formats.elfcore import (
    SPECIAL_DIAG_INFO_ADDRESS,
    CoreLayout,
    LoadSegment,
    flags_of,
    layout,
    special_diag_info,
)
from ..formats.elfnotes import CoreNotes
from ..plan import CaptureWarning, DumpPlan
from ..ranges import PAGE_SIZE, MemoryRange, Reason, joined
from ..report import ExceptionInfo
from ..target import Output, Target, VmRegion
from .copying import MemoryCopy, PageSource, Piece, Progress, copy_pieces

MAX_LOAD_SEGMENTS = 8_000
"""ClrMD opens at most 10,000 program headers (DataTargetLimits.MaxElfProgramHeaders)."""

# EXCEPTION_RECORD of 64 bits, winnt.h: code, flags, inner record, address, number of parameters,
# 15 parameters. A managed exception's first parameter is its HRESULT, as the runtime raises it.
_EXCEPTION_RECORD = struct.Struct("<IIQQI4xQ112x")

_RECORD_OFFSET = 64  # in the page of diagnostics, behind all that it says itself
_OWN_SIZE = 64 << 10  # bytes at the end for the own note, which is written last


class CoreImage:
    """A core to be: prepared while the target is held, written then or, from a copy, later."""

    def __init__(
        self,
        target: Target,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        notes: CoreNotes,
        *,
        diagnostics: bytes,
        comment: str = "",
        has_ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """Lay it out: `diagnostics` is the page for readers, `has_ended` explains failed reads."""
        self.warnings: list[CaptureWarning] = []
        self._pid = target.pid
        self._has_ended = has_ended
        self._comment = comment
        self._plan = plan
        segments = _load_segments(joined(plan.ranges), regions)
        self._diagnostics = diagnostics
        page = (SPECIAL_DIAG_INFO_ADDRESS, SPECIAL_DIAG_INFO_ADDRESS + PAGE_SIZE, PF_R)
        if all(end <= page[0] or start >= page[1] for start, end, _ in segments):
            segments = sorted([*segments, page])
        self._layout: CoreLayout = layout(notes, segments, own_size=_OWN_SIZE)
        self.pieces = list(_pieces(target, regions, self._layout))
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

    def write(self, source: PageSource, output: Output, progress: Progress | None = None) -> None:
        """Write all but the own note.

        Raises:
            OSError: the file cannot be written.
            MemoryFaultError: GC heap memory cannot be read.
            TargetExitedError: the process ended meanwhile.
        """
        output.put(0, memoryview(self._layout.header))
        page = next((s for s in self._layout.segments if _is_page(s)), None)
        split = bisect_left(self.pieces, page.offset if page else 0, key=attrgetter("offset"))
        done = copy_pieces(
            source, self.pieces[:split], output.put, failed=self._failed, progress=progress
        )
        if page:
            output.put(page.offset, memoryview(self._diagnostics))
        copy_pieces(
            source,
            self.pieces[split:],
            output.put,
            failed=self._failed,
            progress=(lambda size: progress(done + size)) if progress else None,
        )

    def seal(self, output: Output, own: Mapping[str, object]) -> None:
        """Write the own note, once all is known that it tells.

        Raises:
            CaptureError: it tells too much.
        """
        comment = {"comment": self._comment} if self._comment else {}
        note = self._layout.own_note({**comment, **own})
        output.put(self._layout.own_offset, memoryview(note))

    def _failed(self, address: int, size: int) -> None:
        """Judge bytes that could not be read: the GC heap is hard, the rest a warning."""
        if self._has_ended():
            pid = self._pid
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


def diagnostics(runtime_base: int, exception: ExceptionInfo | None) -> bytes:
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


def _pieces(target: Target, regions: Sequence[VmRegion], where: CoreLayout) -> Iterator[Piece]:
    """What has to be read; the rest of each segment stays a hole in the file."""
    for segment in where.segments:
        if not _is_page(segment):
            shift = segment.offset - segment.start
            for run in target.resident(regions, MemoryRange(segment.start, segment.end)):
                yield Piece(run.start, run.size, run.start + shift)


def _is_page(segment: LoadSegment) -> bool:
    """Whether this is the page that tells readers where the runtime is."""
    return segment.start == SPECIAL_DIAG_INFO_ADDRESS
