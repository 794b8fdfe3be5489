"""What a snapshot lacks is read from copies."""

from __future__ import annotations

import os
import tempfile

import pytest

from minidumper.errors import CaptureError, MemoryFaultError
from minidumper.platforms.copies import Copies, SnapshotMemory
from minidumper.ranges import MemoryRange


class Filled:
    """Memory in which each byte is `value`, but for an unreadable range."""

    def __init__(self, value: int, hole: range = range(0)) -> None:
        self._value = value
        self._hole = hole

    def read_into(self, address: int, buffer: memoryview) -> int:
        end = address + buffer.nbytes
        size = buffer.nbytes
        if self._hole and address < self._hole.stop and end > self._hole.start:
            size = max(0, self._hole.start - address)
        buffer[:size] = bytes([self._value]) * size
        return size

    def read(self, address: int, size: int) -> bytes:
        raise AssertionError("not asked for")


def copied(source: Filled, ranges: list[MemoryRange], limit: int) -> Copies:
    with tempfile.TemporaryFile() as file:
        return Copies(source, ranges, limit, os.dup(file.fileno()))


def test_copies_take_the_place_of_the_memory_below() -> None:
    calls: list[None] = []
    copies = copied(Filled(1), [MemoryRange(0x5000, 0x7000), MemoryRange(0x2000, 0x3000)], 1 << 20)
    memory = SnapshotMemory(Filled(2, range(0x8000, 0x9000)), copies, lambda: calls.append(None))
    assert copies.size == 0x3000
    assert memory.read(0x1000, 0x7000) == b"".join(
        bytes([value]) * size
        for value, size in ((2, 0x1000), (1, 0x1000), (2, 0x2000), (1, 0x2000), (2, 0x1000))
    )
    assert memory.read(0x2FFF, 2) == b"\1\2"
    assert not calls
    with pytest.raises(MemoryFaultError):
        memory.read(0x7000, 0x1001)
    assert calls  # a fault may mean that the snapshot is gone
    copies.close()


def test_the_smallest_ranges_are_copied_up_to_the_limit() -> None:
    ranges = [MemoryRange(0x1000, 0x9000), MemoryRange(0x10000, 0x11000)]
    copies = copied(Filled(1), ranges, 0x8000)
    assert copies.ranges == [ranges[1]]
    assert [warning.address for warning in copies.warnings] == [0x1000]
    copies.close()


def test_what_cannot_be_read_is_not_in_a_copy() -> None:
    copies = copied(Filled(1, range(0x2000, 0x3000)), [MemoryRange(0x1000, 0x3000)], 1 << 20)
    assert copies.ranges == [MemoryRange(0x1000, 0x2000)]
    copies.close()


def test_a_snapshot_that_is_gone_says_so_instead_of_a_fault() -> None:
    def gone() -> None:
        raise CaptureError("gone")

    copies = copied(Filled(1), [], 0)
    memory = SnapshotMemory(Filled(2, range(0x1000)), copies, gone)
    with pytest.raises(CaptureError, match="gone"):
        memory.read(0x800, 8)
    copies.close()
