"""The runtime's own allocations in the C heap, taken whole where the C heap is small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import MemoryFaultError
from ..ranges import MemoryRange, Reason, ReasonedRange
from ..target import Target, VmRegion

BUDGET = 4 << 20
"""Resident bytes of [heap], and of the arenas together, up to which each is taken whole; above,
only what the DAC read is."""
THREAD_BUDGET = 16 << 10
"""Bytes that each thread adds: the runtime keeps 10 to 13 KB of its own for one (.NET 3.1, 10)."""

_MPROTECT_SIZE = 24  # offset in struct heap_info of glibc's malloc/arena.c
_ARENA = 64 << 20  # HEAP_MAX_SIZE of glibc's malloc/arena.c on 64-bit systems


def c_heap(
    target: Target, regions: Sequence[VmRegion], thread_count: int
) -> Iterator[ReasonedRange]:
    """Ranges of reason RUNTIME_DATA: [heap] and malloc's arenas, each only where it is not large.

    The runtime allocates assemblies, binders and code versions with `new`: the DAC does not
    enumerate these, and what it happened to read in a rehearsal may not be all of them.
    """
    budget = BUDGET + thread_count * THREAD_BUDGET
    heaps = [MemoryRange(r.start, r.end) for r in regions if r.path == "[heap]"]
    arenas = [arena for index in range(len(regions)) for arena in _arenas(target, regions, index)]
    for spans in (heaps, arenas):
        if sum(run.size for span in spans for run in target.resident(regions, span)) <= budget:
            # Absent pages too: the DAC reads structures whole, and zeros cost nothing on the disk.
            for start, end in spans:
                yield ReasonedRange(start, end, Reason.RUNTIME_DATA)


def _arenas(target: Target, regions: Sequence[VmRegion], index: int) -> Iterator[MemoryRange]:
    """The used parts of the arenas that begin in a region.

    A process reserves the rest of each 64 MB; in a core nothing is told of that, and neighbours may
    be joined. There the arena itself tells what it uses.
    """
    region = regions[index]
    if region.protection != "rw-p" or not region.private_anonymous:
        return
    for start in range(-(-region.start // _ARENA) * _ARENA, region.end, _ARENA):
        if start == region.start and _is_reserved(regions, index):
            yield MemoryRange(start, region.end)
            continue
        try:
            size = int.from_bytes(target.memory.read(start + _MPROTECT_SIZE, 8), "little")
        except MemoryFaultError:
            continue
        if start + size == _end(regions, index, start + size):
            yield MemoryRange(start, start + size)


def _is_reserved(regions: Sequence[VmRegion], index: int) -> bool:
    """Whether the rest of a region's 64 MB is reserved."""
    region = regions[index]
    if region.size == _ARENA:
        return True
    rest = regions[index + 1] if index + 1 < len(regions) else None
    return (
        rest is not None
        and rest.start == region.end
        and rest.protection == "---p"
        and rest.end == region.start + _ARENA
    )


def _end(regions: Sequence[VmRegion], index: int, wanted: int) -> int:
    """The end of the region, or of its first neighbour that reaches as far as is wanted."""
    while (
        regions[index].end < wanted
        and index + 1 < len(regions)
        and regions[index + 1].start == regions[index].end
    ):
        index += 1
    return regions[index].end
