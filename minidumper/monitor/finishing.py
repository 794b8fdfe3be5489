"""Finishes the files of dumps beside the watch: a target must not wait for a compressor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ..capture import Taken
from ..report import CaptureReport


class Finisher:
    """One dump after the other, in a thread of its own. Use it in `with`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "minidumper-files")
        self._taken: Taken | None = None
        self._pending: Future[list[CaptureReport]] | None = None
        self._reports: deque[CaptureReport] = deque()

    def __enter__(self) -> Finisher:
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is not finished."""
        if self._taken:
            self._taken.cancel()
        self._thread.shutdown()

    @property
    def busy(self) -> bool:
        """Whether there is something to wait for."""
        return self._pending is not None

    def begin(self, taken: Taken) -> None:
        """Finish a dump, once the one before is."""
        self.wait()
        self._taken = taken
        self._pending = self._thread.submit(taken.finish)

    def wait(self) -> None:
        """Wait until the files are whole.

        Raises:
            CaptureError: they could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._reports.extend(pending.result())
            self._taken = None

    def reports(self) -> Iterator[CaptureReport]:
        """Those of the dumps that are finished, each once.

        Raises:
            CaptureError: one could not be written.
        """
        if self._pending is not None and self._pending.done():
            self.wait()
        while self._reports:
            yield self._reports.popleft()
