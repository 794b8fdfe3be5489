"""A way out to a file in which pages of zeros become holes, wherever they lie."""

from __future__ import annotations

import os

from ..ranges import PAGE_SIZE
from ..target import Output

_ZEROS = bytes(PAGE_SIZE)


class SparseOutput:
    """Leaves out pages of zeros. Each byte is put once, as none is taken back by a zero."""

    def __init__(self, inner: Output) -> None:
        """Write to `inner`, a file that stays the caller's to close."""
        self.path = inner.path
        self.descriptor = inner.descriptor
        self._inner = inner
        self._end = 0

    def __enter__(self) -> SparseOutput:
        return self

    def __exit__(self, *_: object) -> None: ...

    def put(self, offset: int, data: memoryview) -> None:
        """Write what is not zero of `data`.

        Raises:
            OSError: the file cannot be written.
        """
        begin = 0
        for edge in range(-(offset % PAGE_SIZE), data.nbytes, PAGE_SIZE):
            at = max(edge, 0)
            page = bytes(data[at : edge + PAGE_SIZE])  # compared at once, a view byte by byte
            if page == _ZEROS[: len(page)]:
                if begin < at:
                    self._inner.put(offset + begin, data[begin:at])
                begin = at + len(page)
        if begin < data.nbytes:
            self._inner.put(offset + begin, data[begin:])
        self._end = max(self._end, offset + data.nbytes)

    def commit(self) -> int:
        """Bytes that the file takes on the disk.

        Raises:
            OSError: the disk is full, or failed.
        """
        if os.fstat(self.descriptor).st_size < self._end:
            os.ftruncate(self.descriptor, self._end)
        return self._inner.commit()
