"""Reader of minidumps: those of dbghelp, Breakpad, WER and our own.

The file may be damaged or hostile: every offset is held against the file's size, every count
against its stream's, and what is copied out of the file in all has a limit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from ..errors import DumpFormatError
from ..ranges import MemoryRange
from .minidump import (
    COMMENT_A,
    COMMENT_W,
    COUNT,
    DIRECTORY,
    EXCEPTION,
    EXCEPTION_RECORD,
    HANDLE,
    HANDLE_DATA,
    HANDLE_HEADER,
    HEADER,
    LAST_RESERVED,
    LIST,
    MAGIC,
    MEMORY64,
    MEMORY64_LIST,
    MEMORY_DESCRIPTOR,
    MEMORY_INFO,
    MEMORY_INFO_HEADER,
    MEMORY_INFO_LIST,
    MEMORY_LIST,
    MISC,
    MISC_4,
    MISC_BUILD_STRING,
    MISC_INFO,
    MISC_INTEGRITY,
    MISC_PROCESS_ID,
    MISC_PROCESS_TIMES,
    MODULE,
    MODULE_LIST,
    OWN_STREAM,
    STRING,
    SYSTEM,
    SYSTEM_INFO,
    THREAD,
    THREAD_EX,
    THREAD_EX_LIST,
    THREAD_INFO,
    THREAD_INFO_LIST,
    THREAD_LIST,
    THREAD_NAME,
    THREAD_NAMES,
    UNLOADED_MODULE,
    UNLOADED_MODULE_LIST,
    VERSION,
    ExceptionInfo,
    Handle,
    MemorySegment,
    Minidump,
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    Stream,
    SystemInfo,
    Thread,
    ThreadDetails,
    UnloadedModule,
)

# Against damaged files. A real dump has some 20 streams; 20,000 threads are 25 MB of contexts.
_MAX_STREAMS = 1 << 10
_MAX_ENTRIES = 1 << 20
"""Threads, modules, regions or handles."""
_MAX_SEGMENTS = 1 << 22
_MAX_STRING = 0xFFFE
"""Bytes: UNICODE_STRING has a 16-bit length."""
_MAX_OWN_SIZE = 1 << 22
_MAX_COPIED = 1 << 28
"""Bytes that all streams together may take out of the file; memory is not among them."""
_ADDRESS_LIMIT = 1 << 64


def read_minidump(file: BinaryIO) -> Minidump:
    """All that a minidump tells; memory stays in the file.

    Raises:
        DumpFormatError: the file is no minidump, is cut, or is damaged.
    """
    source = _Source(file)
    magic, version, count, directory_rva, _, timestamp, flags = source.record(HEADER, 0)
    if magic != MAGIC or version & 0xFFFF != VERSION:
        raise DumpFormatError("not a minidump")
    if count > _MAX_STREAMS:
        raise DumpFormatError(f"damaged minidump: {count} streams are too many", offset=8)
    table = source.read(directory_rva, count * DIRECTORY.size)
    directory = tuple(Stream(*fields) for fields in DIRECTORY.iter_unpack(table))
    return Minidump(
        flags,
        timestamp,
        tuple(stream for stream in directory if stream.type),
        _Streams(source, directory).all(),
        _segments(source, directory),
    )


class _Source:
    """The file with every access checked; `size` is in bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self._copied = 0
        self._strings: dict[int, str] = {0: ""}

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`."""
        if offset + size > self.size:
            raise DumpFormatError(
                f"the file is cut or damaged: it needs {offset + size} bytes and has {self.size}",
                offset=offset,
            )
        self._copied += size
        if self._copied > _MAX_COPIED:
            raise DumpFormatError("damaged minidump: its streams are too large", offset=offset)
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise DumpFormatError("the file ended while it was read", offset=offset + len(data))
        return data

    def record(self, layout: struct.Struct, offset: int) -> tuple[Any, ...]:
        """One record at `offset`."""
        return layout.unpack(self.read(offset, layout.size))

    def string(self, rva: int) -> str:
        """The MINIDUMP_STRING at `rva`, "" for 0."""
        if rva not in self._strings:
            (length,) = self.record(STRING, rva)
            if length > _MAX_STRING:
                raise DumpFormatError(f"damaged minidump: a text of {length} bytes", offset=rva)
            self._strings[rva] = _text(self.read(rva + STRING.size, length))
        return self._strings[rva]


class _Content:
    """The bytes of one stream; `offset` is where in the file they start."""

    def __init__(self, source: _Source, stream: Stream) -> None:
        self.data = source.read(stream.offset, stream.size)
        self.stream = stream

    def record(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The record at the start of the stream."""
        if len(self.data) < layout.size:
            raise self.damaged(f"it has {len(self.data)} bytes instead of {layout.size}")
        return layout.unpack_from(self.data)

    def rows(
        self, layout: struct.Struct, start: int, stride: int, count: int, limit: int
    ) -> Iterator[tuple[Any, ...]]:
        """`count` records of which the first is at `start`, `stride` bytes apart."""
        if count > limit or stride < layout.size or start + count * stride > len(self.data):
            raise self.damaged(f"{count} entries of {stride} bytes do not fit into it")
        for at in range(start, start + count * stride, stride):
            yield layout.unpack_from(self.data, at)

    def counted(self, layout: struct.Struct) -> Iterator[tuple[Any, ...]]:
        """The records that follow their 32-bit count."""
        (count,) = self.record(COUNT)
        # Breakpad pads the count, so that records with 64-bit members are aligned to 8.
        padded = len(self.data) == 2 * COUNT.size + count * layout.size
        start = 2 * COUNT.size if padded else COUNT.size
        return self.rows(layout, start, layout.size, count, _MAX_ENTRIES)

    def listed(self, header: struct.Struct, layout: struct.Struct) -> Iterator[tuple[Any, ...]]:
        """The records behind a head that tells its own size, theirs and their number."""
        start, stride, count, *_ = self.record(header)
        return self.rows(layout, start, stride, count, _MAX_ENTRIES)

    def damaged(self, why: str) -> DumpFormatError:
        return DumpFormatError(
            f"damaged minidump: stream {self.stream.type}: {why}", offset=self.stream.offset
        )


class _Streams:
    """The streams that have a meaning to us, each read as the first of its type."""

    def __init__(self, source: _Source, directory: Sequence[Stream]) -> None:
        self._source = source
        self._streams: dict[int, Stream] = {}
        for stream in directory:
            self._streams.setdefault(stream.type, stream)

    def all(self) -> MinidumpStreams:
        """All of them."""
        return MinidumpStreams(
            system=self._system(),
            misc=self._misc(),
            modules=tuple(self._modules()),
            unloaded_modules=tuple(self._unloaded_modules()),
            threads=tuple(self._threads()),
            regions=tuple(self._regions()),
            exception=self._exception(),
            handles=tuple(self._handles()),
            comment=self._comment(),
            user_streams=self._user_streams(),
            own=self._own(),
        )

    def _content(self, kind: int) -> _Content | None:
        stream = self._streams.get(kind)
        return _Content(self._source, stream) if stream else None

    def _located(self, size: int, rva: int) -> bytes:
        return self._source.read(rva, size) if size else b""

    def _system(self) -> SystemInfo | None:
        content = self._content(SYSTEM_INFO)
        if content is None:
            return None
        *numbers, service_pack, suite_mask, _, cpu = content.record(SYSTEM)
        text = self._source.string(service_pack)
        return SystemInfo._make((*numbers, text, suite_mask, cpu))

    def _misc(self) -> MiscInfo | None:
        content = self._content(MISC_INFO)
        if content is None:
            return None
        content.record(MISC)
        # The older and shorter forms are the newest one's beginning.
        fields = MISC_4.unpack(content.data[: MISC_4.size].ljust(MISC_4.size, b"\0"))
        flags = fields[1]
        timed, built = flags & MISC_PROCESS_TIMES, flags & MISC_BUILD_STRING
        return MiscInfo(
            pid=fields[2] if flags & MISC_PROCESS_ID else None,
            create_time=fields[3] if timed else None,
            user_time=fields[4] if timed else 0,
            kernel_time=fields[5] if timed else 0,
            integrity_level=fields[11] if flags & MISC_INTEGRITY else None,
            build=_text(fields[16]) if built else "",
            debugger_build=_text(fields[17]) if built else "",
        )

    def _modules(self) -> Iterator[Module]:
        content = self._content(MODULE_LIST)
        for row in content.counted(MODULE) if content else ():
            base, size, checksum, timestamp, name, version, *locations = row
            yield Module(
                *(base, size, self._source.string(name), checksum, timestamp),
                version if any(version) else b"",
                self._located(*locations[:2]),
                self._located(*locations[2:4]),
            )

    def _unloaded_modules(self) -> Iterator[UnloadedModule]:
        content = self._content(UNLOADED_MODULE_LIST)
        for row in content.listed(LIST, UNLOADED_MODULE) if content else ():
            base, size, checksum, timestamp, name = row
            yield UnloadedModule(base, size, self._source.string(name), checksum, timestamp)

    def _threads(self) -> Iterator[Thread]:
        content, layout = self._content(THREAD_LIST), THREAD
        if content is None:
            content, layout = self._content(THREAD_EX_LIST), THREAD_EX
        if content is None:
            return
        names, details = self._thread_names(), self._thread_details()
        for row in content.counted(layout):
            tid, suspended, priority_class, priority, teb, start, size, _, *location = row[:10]
            yield Thread(
                *(tid, self._located(*location), MemoryRange(start, start + size)),
                *(teb, suspended, priority_class, priority),
                names.get(tid, ""),
                details.get(tid),
            )

    def _thread_names(self) -> dict[int, str]:
        content = self._content(THREAD_NAMES)
        rows = content.counted(THREAD_NAME) if content else ()
        return {tid: self._source.string(rva) for tid, rva in rows}

    def _thread_details(self) -> dict[int, ThreadDetails]:
        content = self._content(THREAD_INFO_LIST)
        rows = content.listed(LIST, THREAD_INFO) if content else ()
        return {tid: ThreadDetails(*fields) for tid, *fields in rows}

    def _regions(self) -> Iterator[RegionInfo]:
        content = self._content(MEMORY_INFO_LIST)
        for row in content.listed(MEMORY_INFO_HEADER, MEMORY_INFO) if content else ():
            start, base, base_protect, size, *numbers = row
            yield RegionInfo(start, start + size, base, base_protect, *numbers)

    def _exception(self) -> ExceptionInfo | None:
        content = self._content(EXCEPTION)
        if content is None:
            return None
        tid, code, flags, record, address, count, *rest = content.record(EXCEPTION_RECORD)
        return ExceptionInfo(
            *(tid, code, address, flags, record),
            tuple(rest[:-2][:count]),
            self._located(*rest[-2:]),
        )

    def _handles(self) -> Iterator[Handle]:
        content = self._content(HANDLE_DATA)
        for row in content.listed(HANDLE_HEADER, HANDLE) if content else ():
            handle, type_name, object_name, *numbers = row
            string = self._source.string
            yield Handle(handle, string(type_name), string(object_name), *numbers)

    def _comment(self) -> str:
        content = self._content(COMMENT_W)
        if content is not None:
            return _text(content.data)
        content = self._content(COMMENT_A)
        return content.data.split(b"\0", 1)[0].decode("utf-8", "replace") if content else ""

    def _user_streams(self) -> Mapping[int, bytes]:
        return {
            kind: _Content(self._source, stream).data
            for kind, stream in self._streams.items()
            if kind > LAST_RESERVED and kind != OWN_STREAM
        }

    def _own(self) -> Mapping[str, object] | None:
        content = self._content(OWN_STREAM)
        if content is None:
            return None
        if len(content.data) > _MAX_OWN_SIZE:
            raise content.damaged(f"{len(content.data)} bytes are too many")
        try:
            own = json.loads(content.data)
        except (ValueError, RecursionError) as err:
            raise content.damaged("its JSON cannot be read") from err
        if not isinstance(own, dict):
            raise content.damaged("its JSON is no object")
        return own


def _segments(source: _Source, directory: Sequence[Stream]) -> tuple[MemorySegment, ...]:
    """The memory of both lists, sorted and disjoint.

    dbghelp lets ranges overlap where several reasons name the same memory; the bytes are equal.
    """
    found: list[MemorySegment] = []
    for stream in directory:
        if stream.type == MEMORY_LIST:
            found += _memory_list(source, stream)
        elif stream.type == MEMORY64_LIST:
            found += _memory64_list(source, stream)
    segments: list[MemorySegment] = []
    end = 0
    for segment in sorted(found, key=lambda s: (s.start, -s.end)):
        if segment.start < end:
            shift = end - segment.start
            segment = MemorySegment(end, segment.end, segment.offset + shift)
        if segment.start < segment.end:
            segments.append(segment)
            end = segment.end
    return tuple(segments)


def _memory_list(source: _Source, stream: Stream) -> Iterator[MemorySegment]:
    content = _Content(source, stream)
    for start, size, rva in content.counted(MEMORY_DESCRIPTOR):
        yield _segment(source, content, start, size, rva)


def _memory64_list(source: _Source, stream: Stream) -> Iterator[MemorySegment]:
    content = _Content(source, stream)
    count, offset = content.record(MEMORY64)
    for start, size in content.rows(MEMORY64, MEMORY64.size, MEMORY64.size, count, _MAX_SEGMENTS):
        yield _segment(source, content, start, size, offset)
        offset += size


def _segment(
    source: _Source, content: _Content, start: int, size: int, offset: int
) -> MemorySegment:
    if start + size > _ADDRESS_LIMIT:
        raise content.damaged(f"range 0x{start:x} of {size} bytes overflows")
    if offset + size > source.size:
        raise DumpFormatError(
            f"the file is cut: it needs {offset + size} bytes and has {source.size}",
            offset=source.size,
        )
    return MemorySegment(start, start + size, offset)


def _text(data: bytes) -> str:
    """UTF-16 up to a zero, if there is one; a byte that is left over does not count."""
    return data[: len(data) & ~1].decode("utf-16-le", "surrogatepass").split("\0", 1)[0]
