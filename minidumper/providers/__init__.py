"""Region providers: each names ranges with reasons; together they are what a dump mode needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..clr.client import Surroundings
from ..clr.runtime import Runtime
from ..plan import DumpMode
from ..ranges import MemoryRange, Reason, ReasonedRange
from ..target import Target, ThreadInfo, VmRegion
from .bookkeeping import without_unused
from .environment import environment_blocks
from .modules import ModuleRanges, modified_images, readable
from .stacks import stack_ranges

_COMPILED = "/memfd:doublemapper"
"""Where CoreCLR maps code twice, to write and to run it: src/coreclr/minipal, dotnet/runtime."""

__all__ = [
    "ModuleRanges",
    "native_ranges",
    "private_memory",
    "readable",
    "surroundings",
    "without_unused",
]


def private_memory(regions: Sequence[VmRegion], runtime: Runtime | None) -> Iterator[ReasonedRange]:
    """What a process can write and shares with nobody, as createdump's heap dumps have it.

    And what readers want besides: the runtime's image, assemblies for the names in them, and the
    code that was compiled.
    """
    of_runtime = (_COMPILED, *([runtime.path] if runtime else []))
    for region in regions:
        private = region.protection.startswith("rw") and region.protection[3] == "p"
        if private or region.path.startswith(of_runtime) or region.path.endswith(".dll"):
            yield ReasonedRange(region.start, region.end, Reason.ALL_MEMORY)


def surroundings(regions: Sequence[VmRegion], native: Sequence[ReasonedRange]) -> Surroundings:
    """What the CLR side searches for pointers, and for what; `native` are ranges of ours."""
    anonymous = [r for r in regions if r.private_anonymous or r.path == "[heap]"]
    files = [r for r in regions if r.is_file and r.readable and r.protection[2] != "x"]
    return Surroundings(
        data=[MemoryRange(r.start, r.end) for r in native if Reason.RUNTIME_DATA in r.reasons],
        memory=[MemoryRange(r.start, r.end) for r in anonymous if r.protection == "rw-p"],
        files=[MemoryRange(r.start, r.end) for r in files],
    )


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
