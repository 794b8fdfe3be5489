"""What a fork does not carry over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ranges import MemoryRange, subtract
from ...target import VmRegion
from . import procfs

# How the kernel names shared memory that no file on a disk holds (proc(5), shmem_overview(7)).
_MEMORY_FILES = ("/memfd:", "/dev/zero", "/dev/shm/", "/SYSV", "/anon_hugepage", "/[aio]")
_DEVICES = "/dev/"


def unforked(
    regions: Sequence[VmRegion], child_regions: Sequence[VmRegion], pagemap: int, child_pagemap: int
) -> Iterator[MemoryRange]:
    """The readable ranges that a copy made by fork lacks, or shares with the running process.

    Shared mappings (of a file on a disk only the pages that the process can write and has used:
    the others are as the file is); what MADV_DONTFORK keeps from the child; what MADV_WIPEONFORK
    leaves empty there (madvise(2)). Devices are left out: to read them may do something.
    """
    readable = [region for region in regions if region.readable]
    lacking = subtract(
        [MemoryRange(region.start, region.end) for region in readable],
        [MemoryRange(region.start, region.end) for region in child_regions],
    )
    yield from lacking
    absent = {span.start for span in lacking}
    for region in readable:
        span = MemoryRange(region.start, region.end)
        if region.start in absent:
            continue
        if region.protection[3] == "s":
            if not region.path.startswith("/") or region.path.startswith(_MEMORY_FILES):
                yield span
            elif "w" in region.protection and not region.path.startswith(_DEVICES):
                yield from procfs.resident_runs(pagemap, span)
        elif region.private_anonymous and not procfs.is_present(child_pagemap, span.start):
            present = procfs.resident_runs(pagemap, span)
            if present and not procfs.resident_runs(child_pagemap, span):
                yield from present
