"""Minidumps: layout of a new one, with all memory at the end as in dumps with full memory.

Only the headers are made here; the bytes of memory go to their offsets by someone else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import CaptureError
from ..ranges import page_ceil
from .minidump import (
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
    MEMORY_INFO,
    MEMORY_INFO_HEADER,
    MEMORY_INFO_LIST,
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
    THREAD_INFO,
    THREAD_INFO_LIST,
    THREAD_LIST,
    THREAD_NAME,
    THREAD_NAMES,
    UNLOADED_MODULE,
    UNLOADED_MODULE_LIST,
    VERSION,
    WITH_FULL_MEMORY,
    WITH_FULL_MEMORY_INFO,
    WITH_HANDLE_DATA,
    WITH_THREAD_INFO,
    WITH_UNLOADED_MODULES,
    ExceptionInfo,
    Handle,
    MemorySegment,
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    SystemInfo,
    Thread,
    UnloadedModule,
)

_MAX_RVA = 0xFFFF_FFFF
_MAX_PARAMETERS = 15  # EXCEPTION_MAXIMUM_PARAMETERS
_CONTEXT_ALIGNMENT = 16  # CONTEXT of x64 is DECLSPEC_ALIGN(16), winnt.h


@dataclass(frozen=True, slots=True)
class MinidumpLayout:
    """A minidump to be written: `header` goes to offset 0, each segment's bytes to its offset."""

    header: bytes
    segments: tuple[MemorySegment, ...]
    file_size: int

    def with_streams(self, streams: MinidumpStreams) -> MinidumpLayout:
        """The same layout with other streams, for what is only known after copying.

        Raises:
            CaptureError: the streams have outgrown the header and its spare bytes.
        """
        (timestamp,) = COUNT.unpack_from(self.header, 20)
        header = _header(streams, self.segments, len(self.header), timestamp)
        if len(header) > len(self.header):
            raise CaptureError(
                f"the streams need {len(header)} bytes where {len(self.header)} were kept free",
                stage="layout",
            )
        return MinidumpLayout(header.ljust(len(self.header), b"\0"), self.segments, self.file_size)


def layout(
    streams: MinidumpStreams,
    ranges: Sequence[tuple[int, int]],
    *,
    timestamp: int = 0,
    spare: int = 0,
) -> MinidumpLayout:
    """Where everything goes; `ranges` are (start, end), sorted and disjoint.

    The first range starts at a page of the file, so ranges of whole pages can have holes.
    `timestamp` is in seconds since 1970; `spare` bytes are kept free for `with_streams`.

    Raises:
        CaptureError: the ranges are not as they must be, or the headers exceed 4 GB.
    """
    previous = 0
    for start, end in ranges:
        if not previous <= start < end:
            raise CaptureError(f"range 0x{start:x}-0x{end:x} overlaps another", stage="layout")
        previous = end
    unplaced = [MemorySegment(start, end, 0) for start, end in ranges]
    # Offsets have a fixed width, so the header of unplaced segments has the final size.
    base = page_ceil(len(_header(streams, unplaced, 0, timestamp)) + spare)
    placed = []
    offset = base
    for start, end in ranges:
        placed.append(MemorySegment(start, end, offset))
        offset += end - start
    header = _header(streams, placed, base, timestamp).ljust(base, b"\0")
    return MinidumpLayout(header, tuple(placed), offset)


def own_stream(own: Mapping[str, object]) -> bytes:
    """The content of a stream of type OWN_STREAM, for those who write it by other means."""
    text = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _header(
    streams: MinidumpStreams, segments: Sequence[MemorySegment], base: int, timestamp: int
) -> bytes:
    parts = list(_parts(streams, segments, base))
    image = _Image(HEADER.size + DIRECTORY.size * len(parts))
    directory = []
    for kind, write in parts:
        content = write(image)
        directory.append(DIRECTORY.pack(kind, len(content), image.put(content)))
    if len(image.data) > _MAX_RVA:
        raise CaptureError("the streams need more than the 4 GB of a minidump", stage="layout")
    head = HEADER.pack(
        MAGIC, VERSION, len(parts), HEADER.size, 0, timestamp & 0xFFFF_FFFF, _flags(streams)
    )
    image.data[: HEADER.size + DIRECTORY.size * len(parts)] = head + b"".join(directory)
    return bytes(image.data)


def _flags(streams: MinidumpStreams) -> int:
    """The MINIDUMP_TYPE that would have written the same streams."""
    flags = WITH_FULL_MEMORY
    flags |= WITH_FULL_MEMORY_INFO if streams.regions else 0
    flags |= WITH_HANDLE_DATA if streams.handles else 0
    flags |= WITH_UNLOADED_MODULES if streams.unloaded_modules else 0
    flags |= WITH_THREAD_INFO if any(thread.details for thread in streams.threads) else 0
    return flags


class _Image:
    """The headers while they grow; an RVA is an offset in them."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self._strings: dict[str, int] = {}

    def put(self, content: bytes, alignment: int = 4) -> int:
        """Append `content` and return its RVA."""
        self.data += bytes(-len(self.data) % alignment)
        rva = len(self.data)
        self.data += content
        return rva

    def location(self, content: bytes, alignment: int = 4) -> tuple[int, int]:
        """Size and RVA of `content`, appended unless it is empty."""
        return (len(content), self.put(content, alignment)) if content else (0, 0)

    def string(self, text: str) -> int:
        """The RVA of a MINIDUMP_STRING; equal ones are kept once."""
        if text not in self._strings:
            encoded = _utf16(text)
            self._strings[text] = self.put(STRING.pack(len(encoded)) + encoded + b"\0\0")
        return self._strings[text]


def _parts(
    streams: MinidumpStreams, segments: Sequence[MemorySegment], base: int
) -> Iterator[tuple[int, Callable[[_Image], bytes]]]:
    """Each stream's type and what writes it, in the order of the directory."""
    if streams.system:
        yield SYSTEM_INFO, partial(_system, streams.system)
    if streams.misc:
        yield MISC_INFO, partial(_constant, _misc(streams.misc))
    yield THREAD_LIST, partial(_threads, streams.threads)
    if any(thread.details for thread in streams.threads):
        yield THREAD_INFO_LIST, partial(_constant, _thread_details(streams.threads))
    if any(thread.name for thread in streams.threads):
        yield THREAD_NAMES, partial(_thread_names, streams.threads)
    yield MODULE_LIST, partial(_modules, streams.modules)
    if streams.unloaded_modules:
        yield UNLOADED_MODULE_LIST, partial(_unloaded_modules, streams.unloaded_modules)
    if streams.exception:
        yield EXCEPTION, partial(_exception, streams.exception)
    if streams.regions:
        yield MEMORY_INFO_LIST, partial(_constant, _regions(streams.regions))
    if streams.handles:
        yield HANDLE_DATA, partial(_handles, streams.handles)
    if streams.comment:
        yield COMMENT_W, partial(_constant, _utf16(streams.comment) + b"\0\0")
    for kind, content in streams.user_streams.items():
        if not LAST_RESERVED < kind <= _MAX_RVA or kind == OWN_STREAM:
            raise CaptureError(f"0x{kind:x} is no type for a user stream", stage="layout")
        yield kind, partial(_constant, content)
    if streams.own is not None:
        yield OWN_STREAM, partial(_constant, own_stream(streams.own))
    yield MEMORY64_LIST, partial(_constant, _memory(segments, base))


def _constant(content: bytes, image: _Image) -> bytes:
    return content


def _system(system: SystemInfo, image: _Image) -> bytes:
    return SYSTEM.pack(
        *system[:9], image.string(system.service_pack), system.suite_mask, 0, system.cpu
    )


def _misc(misc: MiscInfo) -> bytes:
    flags = 0 if misc.pid is None else MISC_PROCESS_ID
    flags |= 0 if misc.create_time is None else MISC_PROCESS_TIMES
    flags |= 0 if misc.integrity_level is None else MISC_INTEGRITY
    flags |= MISC_BUILD_STRING if misc.build else 0
    return MISC_4.pack(
        *(MISC_4.size, flags, misc.pid or 0),
        *(misc.create_time or 0, misc.user_time, misc.kernel_time),
        *(0, 0, 0, 0, 0),  # processor power
        *(misc.integrity_level or 0, 0, 0, 0),
        b"",  # time zone
        _fixed_utf16(misc.build, 520),
        _fixed_utf16(misc.debugger_build, 80),
    )


def _threads(threads: Sequence[Thread], image: _Image) -> bytes:
    rows = [
        THREAD.pack(
            *(t.tid, t.suspend_count, t.priority_class, t.priority, t.teb),
            # RVA 0: the stack's bytes are found by address in the Memory64List. dbghelp writes
            # the same into dumps with full memory.
            *(t.stack.start, min(t.stack.size, _MAX_RVA), 0),
            *image.location(t.context, _CONTEXT_ALIGNMENT),
        )
        for t in threads
    ]
    return COUNT.pack(len(rows)) + b"".join(rows)


def _thread_details(threads: Sequence[Thread]) -> bytes:
    rows = [THREAD_INFO.pack(t.tid, *t.details) for t in threads if t.details]
    return LIST.pack(LIST.size, THREAD_INFO.size, len(rows)) + b"".join(rows)


def _thread_names(threads: Sequence[Thread], image: _Image) -> bytes:
    rows = [THREAD_NAME.pack(t.tid, image.string(t.name)) for t in threads if t.name]
    return COUNT.pack(len(rows)) + b"".join(rows)


def _modules(modules: Sequence[Module], image: _Image) -> bytes:
    rows = [
        MODULE.pack(
            *(m.base, m.size, m.checksum, m.timestamp, image.string(m.name), m.version_info),
            *image.location(m.cv_record),
            *image.location(m.misc_record),
            *(0, 0),
        )
        for m in modules
    ]
    return COUNT.pack(len(rows)) + b"".join(rows)


def _unloaded_modules(modules: Sequence[UnloadedModule], image: _Image) -> bytes:
    rows = [
        UNLOADED_MODULE.pack(m.base, m.size, m.checksum, m.timestamp, image.string(m.name))
        for m in modules
    ]
    return LIST.pack(LIST.size, UNLOADED_MODULE.size, len(rows)) + b"".join(rows)


def _exception(exception: ExceptionInfo, image: _Image) -> bytes:
    parameters = exception.parameters[:_MAX_PARAMETERS]
    return EXCEPTION_RECORD.pack(
        *(exception.tid, exception.code, exception.flags, exception.record, exception.address),
        len(parameters),
        *(*parameters, *(0,) * (_MAX_PARAMETERS - len(parameters))),
        *image.location(exception.context, _CONTEXT_ALIGNMENT),
    )


def _regions(regions: Sequence[RegionInfo]) -> bytes:
    head = MEMORY_INFO_HEADER.pack(MEMORY_INFO_HEADER.size, MEMORY_INFO.size, len(regions))
    rows = (
        MEMORY_INFO.pack(
            *(r.start, r.allocation_base, r.allocation_protect, r.end - r.start),
            *(r.state, r.protect, r.type),
        )
        for r in regions
    )
    return head + b"".join(rows)


def _handles(handles: Sequence[Handle], image: _Image) -> bytes:
    rows = [
        HANDLE.pack(
            h.handle,
            image.string(h.type_name) if h.type_name else 0,
            image.string(h.object_name) if h.object_name else 0,
            *h[3:],
        )
        for h in handles
    ]
    return HANDLE_HEADER.pack(HANDLE_HEADER.size, HANDLE.size, len(rows), 0) + b"".join(rows)


def _memory(segments: Sequence[MemorySegment], base: int) -> bytes:
    rows = (MEMORY64.pack(start, end - start) for start, end, _ in segments)
    return MEMORY64.pack(len(segments), base) + b"".join(rows)


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def _fixed_utf16(text: str, size: int) -> bytes:
    """UTF-16 that ends with a zero, in a field of `size` bytes."""
    return _utf16(text)[: size - 2]
