"""The runtime's own allocations in the C heap, taken whole where the C heap is small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..ranges import MemoryRange, Reason, ReasonedRange
from ..target import Target, VmRegion

BUDGET = 4 << 20
"""Resident bytes of [heap], and of the arenas together, up to which each is taken whole; above,
only what the DAC read is."""
THREAD_BUDGET = 16 << 10
"""Bytes that each thread adds: the runtime keeps 10 to 13 KB of its own for one (.NET 3.1, 10)."""

_ARENA = 64 << 20  # HEAP_MAX_SIZE of glibc's malloc/arena.c on 64-bit systems


def c_heap(
    target: Target, regions: Sequence[VmRegion], thread_count: int
) -> Iterator[ReasonedRange]:
    """Ranges of reason RUNTIME_DATA: [heap] and malloc's arenas, each only where it is not large.

    The runtime allocates assemblies, binders and code versions with `new`: the DAC does not
    enumerate these, and what it happened to read in a rehearsal may not be all of them.
    """
    arenas = [region for index, region in enumerate(regions) if _is_arena(regions, index)]
    budget = BUDGET + thread_count * THREAD_BUDGET
    for heap in ([region for region in regions if region.path == "[heap]"], arenas):
        spans = [MemoryRange(region.start, region.end) for region in heap]
        if sum(run.size for span in spans for run in target.resident(regions, span)) <= budget:
            # Absent pages too: the DAC reads structures whole, and zeros cost nothing on the disk.
            for start, end in spans:
                yield ReasonedRange(start, end, Reason.RUNTIME_DATA)


def _is_arena(regions: Sequence[VmRegion], index: int) -> bool:
    """Whether a region looks like a malloc arena: aligned, and the rest of its 64 MB reserved."""
    region = regions[index]
    if region.start % _ARENA or region.protection != "rw-p" or not region.private_anonymous:
        return False
    if region.size == _ARENA:
        return True
    rest = regions[index + 1] if index + 1 < len(regions) else None
    return (
        rest is not None
        and rest.start == region.end
        and rest.protection == "---p"
        and rest.end == region.start + _ARENA
    )
