"""A way out to a file in which pages of zeros become holes, wherever they lie."""

from __future__ import annotations

import os

from ..ranges import without_zeros
from ..target import Output


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
        for run in without_zeros(offset, data):
            self._inner.put(run.start, data[run.start - offset : run.end - offset])
        self._end = max(self._end, offset + data.nbytes)

    def commit(self) -> int:
        """Bytes that the file takes on the disk.

        Raises:
            OSError: the disk is full, or failed.
        """
        if os.fstat(self.descriptor).st_size < self._end:
            os.ftruncate(self.descriptor, self._end)
        return self._inner.commit()
