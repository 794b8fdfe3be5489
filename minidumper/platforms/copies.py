"""What a snapshot lacks of its process, copied while that stands still, and memory made of both."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from ..plan import CaptureWarning
from ..ranges import MemoryRange
from ..target import MemoryReader, MemorySource, read_exactly

COPY_LIMIT = 512 << 20
"""Bytes of shared memory that are copied while the target is stopped, at about 2 GB/s."""


class Copies:
    """Ranges of a process copied into memory of our own."""

    def __init__(
        self, source: MemoryReader, ranges: Iterable[MemoryRange], limit: int, descriptor: int
    ) -> None:
        """Copy `ranges`, the smallest first, up to `limit` bytes in all.

        `descriptor` is that of an empty file, which is ours from then on.
        """
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None
        self.warnings: list[CaptureWarning] = []
        chosen, size = [], 0
        for span in sorted(ranges, key=lambda span: span.end - span.start):
            if size + span.size <= limit:
                chosen.append(span)
                size += span.size
            else:
                self.warnings.append(
                    CaptureWarning(
                        "snapshot",
                        f"{span.size} bytes of shared memory are read while the target runs on",
                        span.start,
                    )
                )
        self._rows: list[tuple[int, int, int]] = []
        try:
            if size:
                self._fill(source, sorted(chosen), size)
        except BaseException:
            self.close()
            raise
        self._starts = [start for start, _, _ in self._rows]

    def _fill(self, source: MemoryReader, ranges: Sequence[MemoryRange], size: int) -> None:
        os.ftruncate(self.descriptor, size)
        self._memory = mmap.mmap(self.descriptor, size)
        with memoryview(self._memory) as view:
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
            assert self._memory
            at = offset + address - start
            with memoryview(self._memory) as view:
                buffer[:size] = view[at : at + size]
            return size, 0
        following = self._starts[index] if index < len(self._starts) else 2**64
        return 0, min(buffer.nbytes, following - address)

    def close(self) -> None:
        """Give the memory back."""
        if self._memory:
            self._memory.close()
        os.close(self.descriptor)


class SnapshotMemory:
    """Copies where there are some, else the child's memory."""

    def __init__(
        self, child: MemoryReader, copies: Copies, check_alive: Callable[[], None]
    ) -> None:
        self._child = child
        self._copies = copies
        self._check_alive = check_alive

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address`; returns the bytes read before the first fault.

        Raises:
            CaptureError: the snapshot is gone.
        """
        done = 0
        while done < buffer.nbytes:
            count, gap = self._copies.read_into(address + done, buffer[done:])
            if gap:
                count = self._child.read_into(address + done, buffer[done : done + gap])
                if count < gap:
                    self._check_alive()
            done += count
            if count < gap or not count:
                break
        return done

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes from `address`.

        Raises:
            MemoryFaultError: not all of it can be read.
            CaptureError: the snapshot is gone.
        """
        return read_exactly(self.read_into, address, size, whose="the snapshot")
