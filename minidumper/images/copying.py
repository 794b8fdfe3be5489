"""Move pages of a target into a file: large reads and writes, nothing per page."""

from __future__ import annotations

import bisect
import itertools
import mmap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from ..target import MemoryCopied, MemoryReader

BUFFER_SIZE = 2 << 20
"""Bytes read and written at once: they stay in the processor's cache.

A second thread, which writes while the next buffer is filled, is no faster: both wait for memory.
"""

Progress = Callable[[int], None]
"""Called with the number of bytes written so far."""


Put = Callable[[int, memoryview], None]
"""Takes bytes for an offset of the file."""


class Piece(NamedTuple):
    """`size` bytes at `address` of the target that belong at `offset` of the file."""

    address: int
    size: int
    offset: int


PageSource = MemoryReader | MemoryCopied
"""Where the bytes come from: a target, or a copy of it in memory."""


def copy_pieces(
    source: PageSource,
    pieces: Iterable[Piece],
    put: Put,
    *,
    failed: Callable[[int, int], None],
    progress: Progress | None = None,
) -> int:
    """Hand `pieces` to `put`; returns the bytes written.

    `failed(address, size)` is called for bytes that cannot be read: it raises, or they stay zero.

    Raises:
        OSError: the file cannot be written.
    """
    written = 0
    # Not closed: an error on its way out still holds views of it. It goes with the last view.
    buffer = memoryview(mmap.mmap(-1, BUFFER_SIZE))
    for batch in _batches(pieces):
        _fill(source, batch, buffer, failed)
        _write(batch, buffer, put)
        written += sum(piece.size for piece in batch)
        if progress:
            progress(written)
    return written


def _batches(pieces: Iterable[Piece]) -> Iterable[list[Piece]]:
    """Pieces in groups that fit into one buffer, large ones cut."""
    batch: list[Piece] = []
    room = BUFFER_SIZE
    for address, size, offset in pieces:
        done = 0
        while done < size:
            part = min(size - done, room)
            batch.append(Piece(address + done, part, offset + done))
            done += part
            room -= part
            if not room:
                yield batch
                batch, room = [], BUFFER_SIZE
    if batch:
        yield batch


def _fill(
    source: PageSource,
    batch: Sequence[Piece],
    buffer: memoryview,
    failed: Callable[[int, int], None],
) -> None:
    at = 0
    for address, size, _ in batch:
        done = source.read_into(address, buffer[at : at + size])
        if done < size:
            failed(address + done, size - done)
            buffer[at + done : at + size] = bytes(size - done)
        at += size


def _write(batch: Sequence[Piece], buffer: memoryview, put: Put) -> None:
    """Write a filled buffer; pieces that touch in the file go out together."""
    start = at = 0
    offset = batch[0].offset
    for piece in batch:
        if piece.offset != offset + at - start:
            put(offset, buffer[start:at])
            start, offset = at, piece.offset
        at += piece.size
    put(offset, buffer[start:at])


class MemoryCopy:
    """Pieces of a target, sorted by address, copied into our own memory and read like it."""

    def __init__(
        self, source: PageSource, pieces: Sequence[Piece], failed: Callable[[int, int], None]
    ) -> None:
        self._starts = [piece.address for piece in pieces]
        self._ends = list(itertools.accumulate(piece.size for piece in pieces))
        self._memory = mmap.mmap(-1, max(sum(piece.size for piece in pieces), 1))
        with memoryview(self._memory) as view:
            _fill(source, pieces, view, failed)

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from the piece that holds `address`; returns the bytes it had."""
        index = bisect.bisect_right(self._starts, address) - 1
        begin = self._ends[index - 1] if index else 0
        at = begin + address - self._starts[index]
        count = min(buffer.nbytes, self._ends[index] - at)
        with memoryview(self._memory) as view:
            buffer[:count] = view[at : at + count]
        return count

    def close(self) -> None:
        """Give the memory back; where an error still holds a view of it, with that."""
        with suppress(BufferError):
            self._memory.close()
