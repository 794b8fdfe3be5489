"""The GC's tables, of which only what is in use belongs to a dump."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from minidumper.errors import MemoryFaultError
from minidumper.providers import without_unused
from minidumper.ranges import PAGE_SIZE, MemoryRange, Reason, ReasonedRange

BASE = 0x10_0000
TABLE = 1 << 20


def target(data: bytes, *, faults_from: int = 1 << 62) -> Any:
    def read(address: int, size: int) -> bytes:
        if address + size > faults_from:
            raise MemoryFaultError("gone", address=address, size=size)
        return data[address - BASE : address - BASE + size]

    def resident(_: object, span: MemoryRange) -> Sequence[MemoryRange]:
        return [span]

    return SimpleNamespace(memory=SimpleNamespace(read=read), resident=resident)


def found(target: Any, size: int, reasons: Reason = Reason.GC_BOOKKEEPING) -> set[int]:
    """The pages that are taken, counted from BASE."""
    taken = without_unused(target, [], [ReasonedRange(BASE, BASE + size, reasons)])
    return {
        page
        for item in taken
        for page in range((item.start - BASE) // PAGE_SIZE, (item.end - BASE - 1) // PAGE_SIZE + 1)
    }


def test_pages_of_zeros_are_left_out_of_a_table() -> None:
    data = bytearray(2 * TABLE)
    data[0] = data[300 * PAGE_SIZE - 1] = data[-1] = 1
    assert found(target(bytes(data)), len(data)) == {0, 299, 511}


def test_what_cannot_be_read_stays() -> None:
    pages = TABLE // PAGE_SIZE
    unread = target(bytes(2 * TABLE), faults_from=BASE + TABLE + 1)
    assert found(unread, 2 * TABLE) == set(range(pages, 2 * pages))


def test_arrays_that_readers_walk_stay_whole() -> None:
    assert found(target(bytes(4 * PAGE_SIZE)), 4 * PAGE_SIZE) == {0, 1, 2, 3}


def test_other_memory_stays_whole() -> None:
    whole = found(target(bytes(TABLE)), TABLE, Reason.GC_BOOKKEEPING | Reason.GC_HEAP)
    assert whole == set(range(TABLE // PAGE_SIZE))
