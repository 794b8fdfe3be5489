"""What a fork does not carry over, copied while the process is still stopped."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from ...plan import CaptureWarning
from ...ranges import MemoryRange, subtract
from ...target import MemoryReader, MemorySource, VmRegion
from . import procfs
from .headroom import STAGE

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


class Copies:
    """Ranges of a process copied into memory of our own."""

    def __init__(self, source: MemoryReader, ranges: Iterable[MemoryRange], limit: int) -> None:
        """Copy `ranges`, the smallest first, up to `limit` bytes in all."""
        self.warnings: list[CaptureWarning] = []
        chosen, size = [], 0
        for span in sorted(ranges, key=lambda span: span.end - span.start):
            if size + span.size <= limit:
                chosen.append(span)
                size += span.size
            else:
                self.warnings.append(
                    CaptureWarning(
                        STAGE,
                        f"{span.size} bytes of shared memory are read while the target runs on",
                        span.start,
                    )
                )
        self.descriptor = os.memfd_create("minidumper-copies", os.MFD_CLOEXEC)
        self._rows: list[tuple[int, int, int]] = []
        if size:
            self._fill(source, sorted(chosen), size)
        self._starts = [start for start, _, _ in self._rows]

    def _fill(self, source: MemoryReader, ranges: Sequence[MemoryRange], size: int) -> None:
        os.ftruncate(self.descriptor, size)
        with mmap.mmap(self.descriptor, size) as memory, memoryview(memory) as view:
            offset = 0
            for start, end in ranges:
                with view[offset : offset + end - start] as buffer:
                    done = source.read_into(start, buffer)
                if done:  # less than all where a file is shorter than its mapping
                    self._rows.append((start, start + done, offset))
                offset += end - start

    @property
    def ranges(self) -> list[MemoryRange]:
        """What was copied, sorted."""
        return [MemoryRange(start, end) for start, end, _ in self._rows]

    @property
    def size(self) -> int:
        """Bytes copied."""
        return sum(end - start for start, end, _ in self._rows)

    def source(self) -> MemorySource:
        """The copies as a file with its table."""
        return MemorySource(self.descriptor, tuple(self._rows))

    def read_into(self, address: int, buffer: memoryview) -> tuple[int, int]:
        """Fill `buffer` from a copy: the bytes read, and where none: those up to the next copy."""
        index = bisect_right(self._starts, address)
        if index and address < self._rows[index - 1][1]:
            start, end, offset = self._rows[index - 1]
            size = min(buffer.nbytes, end - address)
            return os.preadv(self.descriptor, [buffer[:size]], offset + address - start), 0
        following = self._starts[index] if index < len(self._starts) else 2**64
        return 0, min(buffer.nbytes, following - address)

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.descriptor)
