"""Where the bytes of a dump go while it is written: a file, or our own memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Protocol, cast

from ...errors import CaptureError
from ...formats.minidump import MemorySegment

_CHUNK = 8 << 20  # bytes written at once


class Sink(Protocol):
    """Takes bytes at any offset; what was taken can be read again."""

    size: int
    """Bytes up to the end of the last one taken."""

    def put(self, offset: int, data: memoryview) -> None: ...

    def clear(self) -> None: ...

    def reader(self) -> BinaryIO: ...


class FileSink:
    """An open file, by descriptor; it stays open."""

    def __init__(self, descriptor: int) -> None:
        self.size = 0
        self._descriptor = descriptor
        self._at = 0
        os.lseek(descriptor, 0, os.SEEK_SET)

    def put(self, offset: int, data: memoryview) -> None:
        """Write all of `data`.

        Raises:
            OSError: the file cannot be written.
        """
        if offset != self._at:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._at = offset
        while data:
            count = os.write(self._descriptor, data)
            data = data[count:]
            self._at += count
        self.size = max(self.size, self._at)

    def clear(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._descriptor, 0)
        self.size = 0

    def reader(self) -> BinaryIO:
        """The file from its start; closing it does not close the descriptor."""
        self._at = -1
        return open(self._descriptor, "rb", closefd=False)


class Room(Protocol):
    """Memory to put a dump into."""

    view: memoryview

    def close(self) -> None: ...


class MemorySink:
    """A dump in our own memory, which can be read like the target itself once it is whole."""

    def __init__(self, room: Room) -> None:
        """`room` is ours from then on."""
        self.size = 0
        self.segments: Sequence[MemorySegment] = ()
        self._room = room

    def put(self, offset: int, data: memoryview) -> None:
        """Keep `data`.

        Raises:
            CaptureError: the dump is larger than was foreseen.
        """
        end = offset + data.nbytes
        if end > self._room.view.nbytes:
            raise CaptureError(
                f"the dump in memory needs more than the {self._room.view.nbytes} bytes foreseen",
                stage="copy",
                hint="leave out --async",
            )
        self._room.view[offset:end] = data
        self.size = max(self.size, end)

    def clear(self) -> None:
        """Forget what was taken."""
        self.size = 0

    def reader(self) -> BinaryIO:
        """The dump from its start."""
        return cast(BinaryIO, io.BufferedReader(_MemoryFile(self._room.view[: self.size])))

    def write(self, sink: Sink, progress: Callable[[int], None] | None) -> None:
        """Give all bytes to another sink."""
        for at in range(0, self.size, _CHUNK):
            sink.put(at, self._room.view[at : min(at + _CHUNK, self.size)])
            if progress:
                progress(sink.size)

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from the segment that holds `address`; returns the bytes it had."""
        for start, end, offset in self.segments:
            if start <= address < end:
                at = offset + address - start
                count = min(buffer.nbytes, end - address)
                buffer[:count] = self._room.view[at : at + count]
                return count
        return 0

    def close(self) -> None:
        """Give the memory back."""
        self._room.close()


class _MemoryFile(io.RawIOBase):
    """Memory as a file."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0

    def close(self) -> None:
        self._memory.release()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._memory.nbytes}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer).cast("B") as view:
            count = max(0, min(view.nbytes, self._memory.nbytes - self._at))
            view[:count] = self._memory[self._at : self._at + count]
        self._at += count
        return count
