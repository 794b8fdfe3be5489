"""What the GC keeps about its heap: card tables, mark bits, region maps; gigabytes are reserved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import MemoryFaultError
from ..ranges import PAGE_SIZE, MemoryRange, Reason, ReasonedRange, without_zeros
from ..target import MemoryReader, Target, VmRegion

_CHUNK = 256 * PAGE_SIZE
_TABLE = 1 << 20
"""Bytes of the smallest table that is cut; smaller are the arrays of roots that readers walk."""


def without_unused(
    target: Target, regions: Sequence[VmRegion], ranges: Sequence[ReasonedRange]
) -> Iterator[ReasonedRange]:
    """`ranges`, those of the GC's bookkeeping cut to pages that hold something."""
    for item in ranges:
        if item.reasons != Reason.GC_BOOKKEEPING:
            yield item
            continue
        for run in target.resident(regions, MemoryRange(item.start, item.end)):
            parts = _filled(target.memory, run) if item.size >= _TABLE else [run]
            for part in parts:
                yield ReasonedRange(part.start, part.end, item.reasons)


def _filled(memory: MemoryReader, run: MemoryRange) -> Iterator[MemoryRange]:
    """The parts of `run` but for pages of zeros; all of a chunk that cannot be read."""
    for start in range(run.start, run.end, _CHUNK):
        chunk = MemoryRange(start, min(start + _CHUNK, run.end))
        try:
            data = memory.read(chunk.start, chunk.size)
        except MemoryFaultError:
            yield chunk
        else:
            yield from without_zeros(chunk.start, data)
