"""A dump file as a Target: what a live process tells, read from the file."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType

from .errors import DumpFormatError, MemoryFaultError
from .formats.context import amd64_context, user_regs
from .formats.elf import ELF_MAGIC
from .formats.elfcore import LoadSegment, protection_of, read_core
from .formats.elfnotes import NT_FPREGSET, NT_PRSTATUS, CoreThread, MappedFile, ProcessInfo
from .ranges import MemoryRange, joined
from .target import MemorySource, ModuleInfo, ThreadInfo, VmRegion

_MINIDUMP_MAGIC = b"MDMP"
"""MINIDUMP_SIGNATURE, minidumpapiset.h."""
_UNKNOWN_INODE = 1
"""A core does not tell the inode of a mapped file; this says that there is one."""


def open_dump(path: str | os.PathLike[str]) -> DumpFile:
    """Open a dump to read it; close it, or use it in a `with` statement.

    Raises:
        DumpFormatError: it cannot be opened, is no dump of a known format, is cut or damaged.
    """
    name = os.fspath(path)
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115 - the DumpFile closes it
    except OSError as err:
        raise DumpFormatError(f"cannot open {name}: {err.strerror}", path=name) from err
    try:
        return DumpFile(name, file)
    except BaseException as err:
        file.close()
        if isinstance(err, DumpFormatError):
            raise DumpFormatError(
                f"{name}: {err}", path=name, offset=err.offset, hint=err.hint
            ) from err
        raise


class DumpFile:
    """An ELF core as a Target. It holds still: `stopped()` has nothing to do.

    `process` is what the core tells about the process (None where it tells nothing), `note` what
    minidumper wrote into it (None in the cores of others).
    """

    def __init__(self, path: str, file: FileIO) -> None:
        magic = file.read(4)
        if magic == _MINIDUMP_MAGIC:
            raise DumpFormatError("a Windows minidump, a format that is not supported")
        if magic != ELF_MAGIC:
            raise DumpFormatError("neither an ELF core nor any other dump")
        core = read_core(file)
        self.path = path
        self.process: ProcessInfo | None = core.notes.process
        self.note: Mapping[str, object] | None = core.notes.own
        self.auxv: Mapping[int, int] = core.notes.auxv
        self._notes = core.notes
        self._segments = core.segments
        self._file = file
        self._memory = SegmentMemory(file, core.segments)

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
    def pid(self) -> int:
        """The process id, as the process's own system had it; 0 where it is not known."""
        if self.process:
            return self.process.pid
        return self._notes.threads[0].tid if self._notes.threads else 0

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
        """The file, and where in it each load segment lies."""
        table = [(s.start, s.end, s.offset) for s in self._segments]
        return MemorySource(self._file.fileno(), table)

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to stop."""
        return contextlib.nullcontext()

    def regions(self) -> Sequence[VmRegion]:
        """The memory that the file holds, cut where the mapped file changes."""
        return list(_regions(self._segments, self._notes.files))

    def threads(self) -> Sequence[ThreadInfo]:
        """All threads in the file's order, which has the main thread first."""
        return [_thread_info(thread) for thread in self._notes.threads]

    def modules(self) -> Sequence[ModuleInfo]:
        """Files mapped from their first byte, each path once, sorted by base."""
        found: dict[str, ModuleInfo] = {}
        for start, end, offset, path in sorted(self._notes.files):
            if path in found:
                found[path] = found[path]._replace(end=max(end, found[path].end))
            elif offset == 0:
                found[path] = ModuleInfo(path, start, end)
        return list(found.values())

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> Sequence[MemoryRange]:
        """The parts of `span` that are in the file and not in one of its holes."""
        parts = []
        for start, end, offset in self._memory.parts(span):
            for data_start, data_end in _data_runs(self._file, offset, offset + end - start):
                shift = start - offset
                parts.append((data_start + shift, data_end + shift, None))
        return joined(parts)

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """Nothing: a core does not tell which pages differ from the mapped file."""
        return ()


class SegmentMemory:
    """Memory of a dump through its table of segments. Not for two threads at once."""

    def __init__(self, file: FileIO, segments: Sequence[LoadSegment]) -> None:
        self._file = file
        self._segments = segments
        self._starts = [segment.start for segment in segments]

    def parts(self, span: MemoryRange) -> Iterator[tuple[int, int, int]]:
        """The parts of `span` that the file holds: (start, end, file offset), sorted."""
        index = max(0, bisect_right(self._starts, span.start) - 1)
        while index < len(self._segments) and self._segments[index].start < span.end:
            start, end, _, offset = self._segments[index]
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


def _thread_info(thread: CoreThread) -> ThreadInfo:
    regs = user_regs(thread.regsets[NT_PRSTATUS])
    return ThreadInfo(
        tid=thread.tid,
        ip=regs["rip"],
        sp=regs["rsp"],
        context=amd64_context(thread.regsets[NT_PRSTATUS], thread.regsets.get(NT_FPREGSET, b"")),
        regsets=thread.regsets,
        siginfo=thread.siginfo,
        signal=thread.signal,
    )


def _regions(segments: Sequence[LoadSegment], files: Sequence[MappedFile]) -> Iterator[VmRegion]:
    """Segments cut at the edges of mapped files, which other writers may let overlap."""
    mapped = sorted(files)
    first = 0
    for start, end, flags, _ in segments:
        protection = protection_of(flags)
        while first < len(mapped) and mapped[first].end <= start:
            first += 1
        index = first
        while start < end:
            while index < len(mapped) and mapped[index].end <= start:
                index += 1
            if index == len(mapped) or mapped[index].start >= end:
                yield VmRegion(start, end, protection)
                break
            file = mapped[index]
            if start < file.start:
                yield VmRegion(start, file.start, protection)
                start = file.start
            stop = min(end, file.end)
            yield VmRegion(
                *(start, stop, protection),
                offset=file.offset + start - file.start,
                path=file.path,
                inode=_UNKNOWN_INODE,
            )
            start = stop


def _data_runs(file: FileIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) of a file that are no holes (lseek(2)); all where not known."""
    seek_data: int | None = getattr(os, "SEEK_DATA", None)
    seek_hole: int | None = getattr(os, "SEEK_HOLE", None)
    if seek_data is None or seek_hole is None:
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
