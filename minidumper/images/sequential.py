"""Ways out for a dump that only go forward: a pipe, and seekable zstd."""

from __future__ import annotations

import abc
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import zstandard

from ..formats.seekable import FRAME_SIZE, seek_table
from ..target import Output

LEVEL = 1
"""Of zstd, by default; a heap of .NET hardly gets smaller by a higher one."""

LEVELS = range(1, 20)
"""Those that zstd has; above 19 a reader needs much memory (zstd(1), --ultra)."""

_ZEROS = memoryview(bytes(1 << 20))


class SequentialOutput(abc.ABC):
    """Appends what it is given; gaps become zeros."""

    descriptor = -1

    def __init__(self, path: str) -> None:
        self.path = path
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def put(self, offset: int, data: memoryview) -> None:
        """Append `data`, and zeros before it up to `offset`.

        Raises:
            OSError: the bytes cannot be written.
        """
        while self._at < offset:
            zeros = _ZEROS[: offset - self._at]
            self._append(zeros)
            self._at += len(zeros)
        self._append(data)
        self._at += data.nbytes

    @abc.abstractmethod
    def _append(self, data: memoryview) -> None: ...

    @abc.abstractmethod
    def commit(self) -> int: ...

    @abc.abstractmethod
    def close(self) -> None: ...


class PipeOutput(SequentialOutput):
    """An open descriptor to which all goes at once: nothing of it can be taken back."""

    def __init__(self, descriptor: int, path: str) -> None:
        """Write to a copy of `descriptor`."""
        super().__init__(path)
        self._descriptor = os.dup(descriptor)

    def _append(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def commit(self) -> int:
        """How many bytes were written."""
        return self._at

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PackedOutput(SequentialOutput):
    """Frames of zstd to another output, packed by several threads."""

    def __init__(self, inner: Output, level: int) -> None:
        """Pack into `inner`, which stays the caller's to close."""
        super().__init__(inner.path)
        self._inner = inner
        self._level = level
        self._buffer = bytearray()
        self._sizes: list[tuple[int, int]] = []
        self._written = 0
        threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(threads, "minidumper-zstd")
        self._busy: deque[tuple[int, Future[bytes]]] = deque()
        self._most_busy = 2 * threads

    def _append(self, data: memoryview) -> None:
        while data:
            part = data[: FRAME_SIZE - len(self._buffer)]
            self._buffer += part
            data = data[len(part) :]
            if len(self._buffer) == FRAME_SIZE:
                self._flush()

    def commit(self) -> int:
        """Write the last frame and the table of all; bytes on the disk."""
        if self._buffer:
            self._flush()
        while self._busy:
            self._write_next()
        self._put(seek_table(self._sizes))
        return self._inner.commit()

    def close(self) -> None:
        """End the threads; what was not committed is gone."""
        self._pool.shutdown(cancel_futures=True)

    def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        self._busy.append((len(data), self._pool.submit(_packed, data, self._level)))
        if len(self._busy) > self._most_busy:
            self._write_next()

    def _write_next(self) -> None:
        size, packed = self._busy.popleft()
        data = packed.result()
        self._put(data)
        self._sizes.append((len(data), size))

    def _put(self, data: bytes) -> None:
        self._inner.put(self._written, memoryview(data))
        self._written += len(data)


class PackedLater:
    """A plain file without a name, packed into another output once it is whole.

    So nothing is packed while a target stands still for it.
    """

    def __init__(self, plain: Output, packed: PackedOutput, pulse: Callable[[], None]) -> None:
        """Write to `plain`, which is never committed; both stay the caller's to close.

        `pulse` is called while the file is packed; what it raises gives that up.
        """
        self.path = packed.path
        self.descriptor = plain.descriptor
        self.put = plain.put
        self._packed = packed
        self._pulse = pulse

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def commit(self) -> int:
        """Pack the file; bytes of the packed one on the disk.

        Raises:
            OSError: the disk is full, or failed.
        """
        with open(self.descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            buffer = bytearray(FRAME_SIZE)
            offset = 0
            while count := file.readinto(buffer):
                self._pulse()
                self._packed.put(offset, memoryview(buffer)[:count])
                offset += count
        return self._packed.commit()


def _packed(data: bytearray, level: int) -> bytes:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    return compressor.compress(data)
