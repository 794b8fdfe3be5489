"""What dump files of all formats have in common: they hold still, and their memory is a table."""

from __future__ import annotations

import abc
import contextlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType

from ..errors import MemoryFaultError
from ..formats.elfnotes import ProcessInfo
from ..formats.seekable import PackedFile
from ..plan import DumpPlan
from ..ranges import MemoryRange, joined
from ..target import FileImage, MemorySource, ModuleInfo, ThreadInfo, VmRegion

DumpBytes = FileIO | PackedFile
"""A dump's bytes."""

Segment = tuple[int, int, int]
"""(start, end, file offset) of memory that is in the file."""


class DumpFile(abc.ABC):
    """A dump file as a Target. It holds still: `stopped()` has nothing to do.

    `process` is what the file tells about the process (None where it tells nothing), `note` what
    minidumper wrote into it (None in the dumps of others), `auxv` the auxiliary vector of a Linux
    process (getauxval(3)).
    """

    process: ProcessInfo | None
    note: Mapping[str, object] | None
    auxv: Mapping[int, int]

    def __init__(self, path: str, file: DumpBytes, segments: Sequence[Segment]) -> None:
        self.path = path
        self._file = file
        self._segments = segments
        self._memory = SegmentMemory(file, segments)

    def __enter__(self) -> DumpFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; memory can no longer be read."""
        self._file.close()

    @property
    @abc.abstractmethod
    def pid(self) -> int:
        """The process id, as the process's own system had it; 0 where it is not known."""

    @property
    def name(self) -> str:
        """The process name (by our own note that of a .dll, if so), else the file's name."""
        own = (self.note or {}).get("name")
        if isinstance(own, str) and own:
            return own
        return (self.process.name if self.process else "") or Path(self.path).name

    @property
    def memory(self) -> SegmentMemory:
        """The memory in the file."""
        return self._memory

    def memory_source(self) -> MemorySource:
        """The file, and where in it each segment lies."""
        frames = self._file.frames if isinstance(self._file, PackedFile) else ()
        return MemorySource(self._file.fileno(), list(self._segments), frames=frames)

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to stop."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    def regions(self) -> Sequence[VmRegion]:
        """The memory that the file holds, cut where its protection or its file changes."""

    @abc.abstractmethod
    def threads(self) -> Sequence[ThreadInfo]:
        """All threads in the file's order, which has the main thread first."""

    @abc.abstractmethod
    def modules(self) -> Sequence[ModuleInfo]:
        """Mapped images, each path once, sorted by base."""

    def images(self) -> Sequence[ModuleInfo]:
        """All mapped images, sorted by base: a path can have several."""
        return self.modules()

    @abc.abstractmethod
    def image(self, plan: DumpPlan, *, runtime_base: int) -> FileImage:
        """Lay out a dump that holds less of the same memory."""

    @property
    def disk_size(self) -> int:
        """Bytes that the file takes on the disk."""
        stat = os.fstat(self._file.fileno())
        # st_blocks counts 512 bytes, stat(2); Windows has none.
        return int(getattr(stat, "st_blocks", -(-stat.st_size // 512)) * 512)

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> Sequence[MemoryRange]:
        """The parts of `span` that are in the file and not in one of its holes."""
        parts = []
        for start, end, offset in self._memory.parts(span):
            for data_start, data_end in _data_runs(self._file, offset, offset + end - start):
                shift = start - offset
                parts.append((data_start + shift, data_end + shift, None))
        return joined(parts)

    @abc.abstractmethod
    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """Pages of a private file mapping that no longer equal the file."""


class SegmentMemory:
    """Memory of a dump through its table of segments. Not for two threads at once."""

    def __init__(self, file: DumpBytes, segments: Sequence[Segment]) -> None:
        self._file = file
        self._segments = segments
        self._starts = [start for start, _, _ in segments]

    def parts(self, span: MemoryRange) -> Iterator[tuple[int, int, int]]:
        """The parts of `span` that the file holds: (start, end, file offset), sorted."""
        index = max(0, bisect_right(self._starts, span.start) - 1)
        while index < len(self._segments) and self._starts[index] < span.end:
            start, end, offset = self._segments[index]
            first, last = max(start, span.start), min(end, span.end)
            if first < last:
                yield first, last, offset + first - start
            index += 1

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes from `address`.

        Raises:
            MemoryFaultError: the dump does not hold all of it.
        """
        held = 0
        for start, end, _ in self.parts(MemoryRange(address, address + size)):
            if start != address + held:
                break
            held = end - address
        if held == size:  # known before a buffer of a wild size is made
            buffer = bytearray(size)
            if self.read_into(address, memoryview(buffer)) == size:
                return bytes(buffer)
        raise MemoryFaultError(
            f"the dump does not hold the {size} bytes at 0x{address:x}", address=address, size=size
        )

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address`; returns the bytes read before the first gap."""
        done = 0
        for start, end, offset in self.parts(MemoryRange(address, address + len(buffer))):
            if start != address + done:
                break
            self._file.seek(offset)
            while done < end - address:
                count = self._file.readinto(buffer[done : end - address])
                if not count:  # the file was cut since it was opened
                    return done
                done += count
        return done


def _data_runs(file: DumpBytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) of a file that are no holes (lseek(2)); all where not known."""
    seek_data: int | None = getattr(os, "SEEK_DATA", None)
    seek_hole: int | None = getattr(os, "SEEK_HOLE", None)
    if seek_data is None or seek_hole is None or not isinstance(file, FileIO):
        yield start, end
        return
    while start < end:
        try:
            data = file.seek(start, seek_data)
        except OSError:  # ENXIO: nothing but a hole up to the end of the file
            return
        if data >= end:
            return
        start = min(file.seek(data, seek_hole), end)
        yield data, start
