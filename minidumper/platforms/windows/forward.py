"""A minidump to where bytes go forward alone: a pipe, or a compressor.

With full memory dbghelp writes the memory in the order of the file and last of all; then it goes
back to fill in the directory and the head of the list of memory. Both can be told beforehand from
a dump without memory, as that list is the last stream of the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ...errors import CaptureError
from ...formats.minidump import DIRECTORY, HEADER, MEMORY64, MEMORY64_LIST
from ...ranges import MemoryRange, subtract

Put = Callable[[int, memoryview], None]


class ForwardSink:
    """Passes bytes on in the order of the file; what dbghelp will come back for, filled in."""

    def __init__(self, put: Put) -> None:
        """`put` takes bytes at rising offsets."""
        self.size = 0
        self._put = put
        self._kept: bytearray | None = None
        self._head = b""
        self._end = 0
        self._empty = b""
        self._wanted: Sequence[MemoryRange] = ()

    @property
    def begun(self) -> bool:
        """Whether some of it was passed on, which cannot be taken back."""
        return self._kept is None and self.size > 0

    def expect(self, empty: bytes, wanted: Sequence[MemoryRange]) -> None:
        """Get ready for dbghelp: `empty` is the same dump without memory.

        Nothing is passed on before it is known that all that is `wanted` will come.
        """
        self._kept, self._empty, self._wanted = bytearray(), empty, wanted

    def put(self, offset: int, data: memoryview) -> None:
        """Take bytes.

        Raises:
            OSError: they cannot be passed on.
            CaptureError: memory is missing, or dbghelp changes what was passed on.
        """
        # Behind the other streams comes the list, record by record; memory comes by pages.
        if self._kept is not None and offset >= len(self._empty) and data.nbytes > MEMORY64.size:
            self._begin(self._kept)
        end = offset + data.nbytes
        if self._kept is not None:
            self._kept += bytes(max(0, end - len(self._kept)))
            self._kept[offset:end] = data
        elif offset >= len(self._head):
            self._put(offset, data)
        elif self._head[offset:end] != data:
            raise CaptureError("dbghelp changed what was passed on already", stage="write")
        self.size = max(self.size, end)

    def clear(self) -> None:
        """Forget what was taken; the next is passed on as it comes."""
        self._kept = None
        self.size = 0

    def finish(self) -> None:
        """All of it must have come.

        Raises:
            CaptureError: less memory came than was told beforehand.
        """
        if self._kept is not None:  # there was no memory at all
            self._begin(self._kept)
        if self.size != self._end:
            raise CaptureError(f"dbghelp left out {self._end - self.size} bytes", stage="write")

    def reader(self) -> BinaryIO:
        """Nothing of it can be read again."""
        raise io.UnsupportedOperation("read")

    def _begin(self, kept: bytearray) -> None:
        """Pass on what lies before the memory, with the directory and the head of its list."""
        base, start = len(kept), len(self._empty)
        blocks = [MEMORY64.unpack_from(kept, row) for row in range(start, base, MEMORY64.size)]
        held = [MemoryRange(at, at + size) for at, size in blocks]
        if missing := subtract(self._wanted, held):
            raise CaptureError(f"it left out {described(missing)}", stage="write")
        _, _, count, directory, *_ = HEADER.unpack_from(kept)
        for row in range(directory, directory + count * DIRECTORY.size, DIRECTORY.size):
            kind, size, offset = DIRECTORY.unpack_from(self._empty, row)
            if kind == MEMORY64_LIST:
                if offset + size != start:
                    raise CaptureError("dbghelp wrote streams behind that of the memory")
                size = base - offset
                MEMORY64.pack_into(kept, offset, len(blocks), base)
            DIRECTORY.pack_into(kept, row, kind, size, offset)
        self._head, self._kept = bytes(kept), None
        self._end = base + sum(size for _, size in blocks)
        self._put(0, memoryview(self._head))


def described(ranges: Sequence[MemoryRange]) -> str:
    """Ranges in a few words."""
    size = sum(part.size for part in ranges)
    first = ranges[0]
    return f"{size} bytes in {len(ranges)} ranges, the first 0x{first.start:x}-0x{first.end:x}"
