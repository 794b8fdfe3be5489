"""Seekable zstd: independent frames and a table of them, in a frame that other readers skip.

https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md
"""

from __future__ import annotations

import io
import os
import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import zstandard

from ..errors import DumpFormatError

MAGIC = struct.pack("<I", 0xFD2FB528)
"""What a zstd frame begins with (RFC 8878, 3.1.1)."""

FRAME_SIZE = 2 << 20
"""Bytes in a frame: what is unpacked to read a single one of them."""

_SKIPPABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_HEADER = struct.Struct("<II")  # of a skippable frame: magic, size
_ENTRY = struct.Struct("<II")  # compressed size, size
_FOOTER = struct.Struct("<IBI")  # frames, descriptor, magic
_WITH_CHECKSUMS = 0x80
_RESERVED = 0x7C
_MAX_FRAMES = 0x8000000  # by the format
_MAX_FRAME_SIZE = 64 << 20  # against damaged files; the format allows 1 GB
_KEPT = 8  # frames in memory


class Frame(NamedTuple):
    """A frame: [start, end) unpacked, `size` bytes at `offset` of the file."""

    start: int
    end: int
    offset: int
    size: int


def seek_table(sizes: Iterable[tuple[int, int]]) -> bytes:
    """The table of frames, which comes last: compressed size and size (bytes) of each."""
    rows = b"".join(_ENTRY.pack(*row) for row in sizes)
    size = len(rows) + _FOOTER.size
    footer = _FOOTER.pack(len(rows) // _ENTRY.size, 0, _SEEKABLE)
    return _HEADER.pack(_SKIPPABLE, size) + rows + footer


def read_table(file: io.FileIO) -> list[Frame]:
    """The frames of a file.

    Raises:
        DumpFormatError: it has no table, or a damaged one.
    """
    end = file.seek(0, os.SEEK_END)
    footer = _read(file, max(0, end - _FOOTER.size), min(end, _FOOTER.size))
    if len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[2] != _SEEKABLE:
        raise DumpFormatError(
            "compressed without a table of its frames, so it cannot be read in place",
            hint="unpack it first: minidumper unpack FILE.zst",
        )
    count, descriptor, _ = _FOOTER.unpack(footer)
    width = _ENTRY.size + (4 if descriptor & _WITH_CHECKSUMS else 0)
    size = count * width + _FOOTER.size
    start = end - size - _HEADER.size
    if count > _MAX_FRAMES or descriptor & _RESERVED or start < 0:
        raise _damaged(end)
    if _read(file, start, _HEADER.size) != _HEADER.pack(_SKIPPABLE, size):
        raise _damaged(start)
    table = _read(file, start + _HEADER.size, count * width)
    rows = [_ENTRY.unpack_from(table, at) for at in range(0, count * width, width)]
    offsets = accumulate((packed for packed, _ in rows), initial=0)
    starts = accumulate((unpacked for _, unpacked in rows), initial=0)
    frames = [
        Frame(at, at + unpacked, offset, packed)
        for at, offset, (packed, unpacked) in zip(starts, offsets, rows, strict=False)
    ]
    if not all(0 < unpacked <= _MAX_FRAME_SIZE for _, unpacked in rows):
        raise _damaged(start)
    if frames and frames[-1].offset + frames[-1].size > start:
        raise _damaged(start)
    return frames


class PackedFile(io.BufferedReader):
    """The unpacked bytes of a seekable file; what is read is unpacked then.

    `frames` are its frames; `fileno` gives the file as it is.
    """

    def __init__(self, file: io.FileIO) -> None:
        """Read the table of `file`, which this owns from then on.

        Raises:
            DumpFormatError: it has no table, or a damaged one.
        """
        frames = _Frames(file)
        super().__init__(frames)
        self.frames: Sequence[Frame] = frames.frames


class _Frames(io.RawIOBase):
    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.frames = read_table(file)
        self._starts = [frame.start for frame in self.frames]
        self._size = self.frames[-1].end if self.frames else 0
        self._at = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def fileno(self) -> int:
        """The descriptor of the file as it is."""
        return self._file.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer up to the end of a frame.

        Raises:
            DumpFormatError: a frame is damaged.
        """
        if not 0 <= self._at < self._size:
            return 0
        index = bisect_right(self._starts, self._at) - 1
        data = self._frame(index)
        with memoryview(buffer).cast("B") as view:
            begin = self._at - self._starts[index]
            count = min(view.nbytes, len(data) - begin)
            view[:count] = data[begin : begin + count]
        self._at += count
        return count

    def _frame(self, index: int) -> bytes:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        frame = self.frames[index]
        data = unpack_frame(_read(self._file, frame.offset, frame.size), frame)
        self._kept[index] = data
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return data


def unpack_frame(packed: bytes, frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises:
        DumpFormatError: it is damaged.
    """
    size = frame.end - frame.start
    try:
        told = zstandard.frame_content_size(packed)  # as much is allocated; -1: it does not tell
        if told not in (-1, size):
            raise _damaged(frame.offset)
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError as err:
        raise DumpFormatError(f"damaged zstd frame: {err}", offset=frame.offset) from err
    if len(data) != size:
        raise _damaged(frame.offset)
    return data


def _read(file: io.FileIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _damaged(offset: int) -> DumpFormatError:
    return DumpFormatError("damaged table of zstd frames", offset=offset)
