"""Plans for dumps of the test programs, and what a file that was written from one holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minidump.minidumpfile import MinidumpFile

from minidumper.formats.minidump import OWN_STREAM
from minidumper.formats.minidump_reader import read_minidump
from minidumper.plan import DumpMode, DumpPlan
from minidumper.platforms.windows.capture import MinidumpImage
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.ranges import Reason, ReasonedRange, joined

Segments = list[tuple[int, int]]
OWN = {"mode": "test", "text": "wörd"}


def full_plan(target: WindowsProcess) -> DumpPlan:
    ranges = [
        ReasonedRange(region.start, region.end, Reason.ALL_MEMORY)
        for region in target.regions()
        if region.readable
    ]
    return DumpPlan(DumpMode.FULL, tuple(ranges))


def sparse_plan(target: WindowsProcess) -> DumpPlan:
    """Every other page of what is private, and the headers of all images."""
    ranges = []
    for region in target.regions():
        if region.private_anonymous and region.readable:
            pages = range(region.start, min(region.end, region.start + (4 << 20)), 8192)
            ranges += [ReasonedRange(page, page + 4096, Reason.DAC_READ) for page in pages]
        elif region.is_file and region.offset == 0:
            ranges.append(ReasonedRange(region.start, region.start + 4096, Reason.MODULE_HEADER))
    return DumpPlan(DumpMode.HEAP, tuple(ranges))


def prepared(target: WindowsProcess, plan: DumpPlan) -> MinidumpImage:
    return target.image(plan, target.regions(), target.threads(), runtime_base=0)


@contextmanager
def opened(path: Path) -> Iterator[MinidumpFile]:
    """The file as an outside reader has it; that one forgets to close it."""
    dump = MinidumpFile.parse(str(path))
    try:
        yield dump
    finally:
        dump.file_handle.close()


def segments(path: Path) -> Segments:
    """What the file holds: neighbours joined."""
    with opened(path) as dump:
        memory = dump.memory_segments_64.memory_segments
    return joined_pairs((s.start_virtual_address, s.end_virtual_address) for s in memory)


def joined_pairs(pairs: Iterator[tuple[int, int]]) -> Segments:
    return [(start, end) for start, end in joined((*pair, None) for pair in sorted(pairs))]


def planned(plan: DumpPlan) -> Segments:
    return joined_pairs((r.start, r.end) for r in plan.ranges)


def own_stream(path: Path) -> Any:
    with open(path, "rb") as file:
        (stream,) = [s for s in read_minidump(file).directory if s.type == OWN_STREAM]
        file.seek(stream.offset)
        return json.loads(file.read(stream.size))
