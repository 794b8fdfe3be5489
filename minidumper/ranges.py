"""Address ranges [start, end) with reasons: union, clip, coalesce, split. No I/O."""

from __future__ import annotations

import bisect
import enum
import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

PAGE_SIZE = 4096
"""Bytes of a page on x86-64 (Intel SDM volume 3, 4.1); ranges are aligned to it."""

_ZEROS = bytes(PAGE_SIZE)


class Reason(enum.IntFlag):
    """Why a range belongs to a dump; several can hold. `docs/architecture.md` has the list."""

    GC_HEAP = 1 << 0
    GC_BOOKKEEPING = 1 << 1
    HANDLE_TABLE = 1 << 2
    LOADER_HEAP = 1 << 3
    JIT_CODE = 1 << 4
    STUBS = 1 << 5
    RUNTIME_DATA = 1 << 6
    STACK = 1 << 7
    MODULE_HEADER = 1 << 8
    METADATA = 1 << 9
    MODIFIED_IMAGE = 1 << 10
    DAC_READ = 1 << 11
    ALL_MEMORY = 1 << 12


class MemoryRange(NamedTuple):
    """Addresses from `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class ReasonedRange(NamedTuple):
    """A range and why it is wanted."""

    start: int
    end: int
    reasons: Reason

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def page_floor(address: int) -> int:
    """The start of the page that holds `address`."""
    return address & -PAGE_SIZE


def page_ceil(address: int) -> int:
    """The start of the first page at or above `address`."""
    return (address + PAGE_SIZE - 1) & -PAGE_SIZE


def page_aligned(start: int, end: int, reasons: Reason) -> ReasonedRange:
    """The whole pages that [start, end) touches."""
    return ReasonedRange(page_floor(start), page_ceil(end), reasons)


def union(ranges: Iterable[ReasonedRange]) -> list[ReasonedRange]:
    """Sorted, disjoint ranges that cover the same addresses; reasons of overlaps are joined.

    Neighbours with equal reasons become one range; empty ranges vanish.
    """
    events: dict[int, list[tuple[int, int]]] = {}
    for start, end, reasons in ranges:
        if start < end:
            events.setdefault(start, []).append((int(reasons), 1))
            events.setdefault(end, []).append((int(reasons), -1))
    out: list[ReasonedRange] = []
    counts: dict[int, int] = {}
    previous = 0
    current = Reason(0)
    for address in sorted(events):
        if current:
            if out and out[-1].end == previous and out[-1].reasons == current:
                out[-1] = ReasonedRange(out[-1].start, address, out[-1].reasons)
            else:
                out.append(ReasonedRange(previous, address, current))
        for bits, delta in events[address]:
            counts[bits] = counts.get(bits, 0) + delta
            if not counts[bits]:
                del counts[bits]
        previous = address
        current = Reason(functools.reduce(operator.or_, counts, 0))
    return out


def clip(ranges: Sequence[ReasonedRange], allowed: Sequence[MemoryRange]) -> list[ReasonedRange]:
    """The parts of `ranges` inside `allowed`; both sorted and each disjoint."""
    out: list[ReasonedRange] = []
    first = 0
    for start, end, reasons in ranges:
        while first < len(allowed) and allowed[first].end <= start:
            first += 1
        index = first
        while index < len(allowed) and allowed[index].start < end:
            out.append(
                ReasonedRange(
                    max(start, allowed[index].start), min(end, allowed[index].end), reasons
                )
            )
            index += 1
    return out


def subtract(ranges: Sequence[MemoryRange], holes: Sequence[MemoryRange]) -> list[MemoryRange]:
    """The parts of `ranges` outside `holes`; both sorted and each disjoint."""
    out: list[MemoryRange] = []
    first = 0
    for start, end in ranges:
        while first < len(holes) and holes[first].end <= start:
            first += 1
        index = first
        while index < len(holes) and holes[index].start < end:
            if start < holes[index].start:
                out.append(MemoryRange(start, holes[index].start))
            start = max(start, holes[index].end)
            index += 1
        if start < end:
            out.append(MemoryRange(start, end))
    return out


def joined(
    ranges: Iterable[tuple[int, int, object]] | Iterable[ReasonedRange],
) -> list[MemoryRange]:
    """Sorted ranges with their reasons forgotten and neighbours made one."""
    out: list[MemoryRange] = []
    for start, end, _ in ranges:
        if out and start <= out[-1].end:
            out[-1] = MemoryRange(out[-1].start, max(end, out[-1].end))
        else:
            out.append(MemoryRange(start, end))
    return out


def chunks(ranges: Iterable[MemoryRange], max_size: int) -> Iterator[MemoryRange]:
    """`ranges` in order, cut into pieces of at most `max_size` bytes."""
    for start, end in ranges:
        for at in range(start, end, max_size):
            yield MemoryRange(at, min(at + max_size, end))


def without_zeros(start: int, data: bytes | memoryview) -> Iterator[MemoryRange]:
    """The runs of pages that hold something but zeros; `data` lies at `start`, in bytes."""
    end = start + len(data)
    begin = start
    for edge in range(page_floor(start), end, PAGE_SIZE):
        at = max(edge, start)
        after = min(edge + PAGE_SIZE, end)
        page = bytes(data[at - start : after - start])  # compared at once, a view byte by byte
        if page == _ZEROS[: len(page)]:
            if begin < at:
                yield MemoryRange(begin, at)
            begin = after
    if begin < end:
        yield MemoryRange(begin, end)


def fill_gaps(
    ranges: Sequence[ReasonedRange], allowed: Sequence[MemoryRange], limit: int
) -> list[ReasonedRange]:
    """`ranges` with the smallest gaps inside `allowed` filled until at most `limit` blocks remain.

    A block is a run of touching ranges. A filled gap takes the reasons of the range before it.
    """
    gaps = [
        (after.start - before.end, index)
        for index, (before, after) in enumerate(itertools.pairwise(ranges))
        if before.end < after.start
    ]
    surplus = len(gaps) + 1 - limit
    if surplus <= 0:
        return list(ranges)
    starts = [part.start for part in allowed]
    filled: set[int] = set()
    for _, index in sorted(gaps):
        before, after = ranges[index], ranges[index + 1]
        holder = allowed[bisect.bisect_right(starts, before.start) - 1]
        if len(filled) < surplus and after.start < holder.end:
            filled.add(index)
    return [
        item._replace(end=ranges[index + 1].start) if index in filled else item
        for index, item in enumerate(ranges)
    ]
