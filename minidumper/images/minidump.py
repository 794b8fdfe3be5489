"""A minidump of what another one holds: its streams, and less of its memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..errors import MemoryFaultError
from ..formats.minidump import MinidumpStreams
from ..formats.minidump_writer import layout
from ..plan import CaptureWarning, DumpPlan
from ..ranges import MemoryRange, joined
from ..target import Output, Target, VmRegion
from .copying import PageSource, Piece, Progress, copy_pieces

_SPARE = 64 << 10  # bytes of the own stream, which is filled in last


class StrippedMinidump:
    """A minidump to be."""

    def __init__(
        self,
        target: Target,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        streams: MinidumpStreams,
        *,
        timestamp: int,
    ) -> None:
        """Lay it out; `timestamp` is in seconds since 1970."""
        self.warnings: list[CaptureWarning] = []
        self._streams = streams
        self._layout = layout(streams, joined(plan.ranges), timestamp=timestamp, spare=_SPARE)
        self._pieces = [
            Piece(run.start, run.size, offset + run.start - start)
            for start, end, offset in self._layout.segments
            for run in target.resident(regions, MemoryRange(start, end))
        ]
        self.file_size = self._layout.file_size
        """Apparent bytes of the file."""
        self.data_size = sum(piece.size for piece in self._pieces)
        """Bytes of memory to copy."""

    def write(self, source: PageSource, output: Output, progress: Progress | None = None) -> None:
        """Write all but the own stream.

        Raises:
            OSError: the file cannot be written.
            MemoryFaultError: the source is cut.
        """
        copy_pieces(source, self._pieces, output.put, failed=_failed, progress=progress)

    def seal(self, output: Output, own: Mapping[str, object]) -> None:
        """Write the streams, the own one among them, once all is known that it tells.

        Raises:
            CaptureError: it tells too much.
        """
        whole = self._layout.with_streams(dataclasses.replace(self._streams, own=own))
        output.put(0, memoryview(whole.header))


def _failed(address: int, size: int) -> None:
    raise MemoryFaultError(
        f"the dump was cut while it was read: {size} bytes at 0x{address:x} are missing",
        address=address,
        size=size,
    )
