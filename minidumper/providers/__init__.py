"""Region providers: each names ranges with reasons; together they are what a dump mode needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..plan import DumpMode
from ..ranges import Reason, ReasonedRange
from ..target import Target, ThreadInfo, VmRegion
from .environment import environment_blocks
from .modules import ModuleRanges, modified_images, readable
from .runtime_data import c_heap
from .stacks import stack_ranges

__all__ = ["ModuleRanges", "native_ranges", "readable"]


def native_ranges(
    mode: DumpMode,
    target: Target,
    regions: Sequence[VmRegion],
    threads: Sequence[ThreadInfo],
    modules: ModuleRanges,
) -> Iterator[ReasonedRange]:
    """What a mode needs besides that which the CLR side names."""
    if mode is DumpMode.FULL:
        for start, end in readable(regions):
            yield ReasonedRange(start, end, Reason.ALL_MEMORY)
    yield from stack_ranges(regions, threads)
    yield from environment_blocks(target.memory, threads)
    yield from modules.ranges(target, regions)
    if mode is not DumpMode.MINIMAL:
        yield from modified_images(target, regions)
        yield from c_heap(target, regions, len(threads))
