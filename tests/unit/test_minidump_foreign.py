"""Minidumps of other writers, and damaged or hostile ones."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidumper import dbghelp
from minidumper.errors import DumpFormatError
from minidumper.formats.minidump import (
    Handle,
    MemorySegment,
    Minidump,
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    Thread,
    ThreadDetails,
)
from minidumper.formats.minidump_reader import read_minidump
from minidumper.formats.minidump_writer import layout
from minidumper.ranges import MemoryRange

Type = dbghelp.MINIDUMP_STREAM_TYPE

unhurried = settings(deadline=None)
"""A busy machine is no failure."""


class Builder:
    """A file made of Microsoft's structures, the streams in the order they are added."""

    def __init__(self, room: int = 12) -> None:
        self.data = bytearray(32 + 12 * room)
        self.streams: list[bytes] = []

    def put(self, content: Any) -> int:
        self.data += bytes(content)
        return len(self.data) - len(bytes(content))

    def string(self, text: str) -> int:
        content = text.encode("utf-16-le")
        return self.put(struct.pack("<I", len(content)) + content + b"\0\0")

    def stream(self, kind: int, *contents: Any) -> Builder:
        content = b"".join(bytes(part) for part in contents)
        location = (len(content), self.put(content))
        self.streams.append(bytes(dbghelp.MINIDUMP_DIRECTORY(kind, location)))
        return self

    def bytes(self) -> bytes:
        header = dbghelp.MINIDUMP_HEADER(
            Signature=dbghelp.MINIDUMP_SIGNATURE,
            Version=0xA043_0000 | dbghelp.MINIDUMP_VERSION,  # upper half: dbghelp's own
            NumberOfStreams=len(self.streams),
            StreamDirectoryRva=32,
        )
        head = bytes(header) + b"".join(self.streams)
        return head + bytes(self.data[len(head) :])

    def read(self) -> Minidump:
        return read_minidump(io.BytesIO(self.bytes()))


def test_both_memory_lists_and_overlaps() -> None:
    file = Builder()
    at = file.put(bytes(0x5000))
    rows = [(0x1000, 0x2000, at), (0x2000, 0x3000, at), (0x2800, 0x400, at), (0x9000, 0, at)]
    file.stream(
        Type.MemoryListStream,
        struct.pack("<I", len(rows)),
        *(struct.pack("<QII", *row) for row in rows),
    )
    file.stream(
        *(Type.Memory64ListStream, dbghelp.MINIDUMP_MEMORY64_LIST(2, at)),
        *(struct.pack("<QQ", 0x10_0000, 0x1000), struct.pack("<QQ", 0x8000, 0x800)),
    )
    assert file.read().segments == (
        MemorySegment(0x1000, 0x3000, at),
        MemorySegment(0x3000, 0x5000, at + 0x1000),
        MemorySegment(0x8000, 0x8800, at + 0x1000),
        MemorySegment(0x10_0000, 0x10_1000, at),
    )


def test_older_and_newer_misc_info() -> None:
    times = {"Flags1": 3, "ProcessId": 7, "ProcessCreateTime": 8, "ProcessUserTime": 9}
    for kind in (dbghelp.MINIDUMP_MISC_INFO, dbghelp.MINIDUMP_MISC_INFO_2):
        assert Builder().stream(Type.MiscInfoStream, kind(**times)).read().streams.misc == (
            MiscInfo(7, 8, 9)
        )
    newest = dbghelp.MINIDUMP_MISC_INFO_5(Flags1=0x310, ProcessIntegrityLevel=0x2000)
    newest.BuildString[:3] = [ord("a"), ord("b"), 0]
    streams = Builder().stream(Type.MiscInfoStream, newest).read().streams
    assert streams.misc == MiscInfo(integrity_level=0x2000, build="ab")


def test_lists_padded_by_breakpad() -> None:
    file = Builder()
    name = file.string("/lib/a.so")
    module = dbghelp.MINIDUMP_MODULE(BaseOfImage=0x1000, SizeOfImage=0x2000, ModuleNameRva=name)
    file.stream(Type.ModuleListStream, struct.pack("<II", 1, 0), module)
    assert file.read().streams.modules == (Module(0x1000, 0x2000, "/lib/a.so"),)


def test_threads_with_a_backing_store() -> None:
    thread = dbghelp.MINIDUMP_THREAD_EX(ThreadId=5, Teb=6)
    thread.Stack.StartOfMemoryRange = 0x1000
    thread.Stack.Memory.DataSize = 0x200
    info = dbghelp.MINIDUMP_THREAD_INFO(ThreadId=5, ExitStatus=1, Affinity=9)
    file = Builder().stream(Type.ThreadExListStream, struct.pack("<I", 1), thread)
    # Entries and heads may grow in later versions: their sizes are in the head.
    file.stream(Type.ThreadInfoListStream, struct.pack("<IIII", 16, 72, 1, 0), info, bytes(8))
    assert file.read().streams.threads == (
        Thread(
            *(5, b"", MemoryRange(0x1000, 0x1200), 6),
            details=ThreadDetails(exit_status=1, affinity=9),
        ),
    )


def test_newer_handles_and_regions() -> None:
    file = Builder()
    kind = file.string("Key")
    handle = dbghelp.MINIDUMP_HANDLE_DESCRIPTOR_2(Handle=4, TypeNameRva=kind, HandleCount=2)
    head = dbghelp.MINIDUMP_HANDLE_DATA_STREAM(16, 40, 1)
    file.stream(Type.HandleDataStream, head, handle)
    region = dbghelp.MINIDUMP_MEMORY_INFO(BaseAddress=0x1000, RegionSize=0x2000, State=0x1000)
    file.stream(Type.MemoryInfoListStream, dbghelp.MINIDUMP_MEMORY_INFO_LIST(16, 48, 1), region)
    streams = file.read().streams
    assert streams.handles == (Handle(4, "Key", handle_count=2),)
    assert streams.regions == (RegionInfo(0x1000, 0x3000, 0, 0, 0x1000, 0, 0),)


def test_comments() -> None:
    narrow = Builder().stream(Type.CommentStreamA, b"plain\0rest")
    assert narrow.read().streams.comment == "plain"
    wide = narrow.stream(Type.CommentStreamW, "wide".encode("utf-16-le") + b"\0\0x")
    assert wide.read().streams.comment == "wide"


def test_the_first_of_equal_streams_counts() -> None:
    file = Builder().stream(Type.CommentStreamW, b"a\0").stream(Type.CommentStreamW, b"b\0")
    file.stream(Type.UnusedStream).stream(25, b"unknown")
    dump = file.read()
    assert dump.streams == MinidumpStreams(comment="a")
    assert [stream.type for stream in dump.directory] == [11, 11, 25]


def corpus() -> list[bytes]:
    """Small files that have every stream and both kinds of memory list."""
    full = MinidumpStreams(
        misc=MiscInfo(1, 2, 3, 4, 5, "build"),
        modules=(Module(0x1000, 0x1000, "a.dll", 1, 2, b"v" * 52, b"RSDS" + bytes(24)),),
        threads=(Thread(1, b"context", MemoryRange(0x1000, 0x2000), 3, name="n"),),
        regions=(RegionInfo(0, 0x1000, 0, 0, 0x10000, 1, 0),),
        handles=(Handle(4, "Key", "name"),),
        comment="text",
        user_streams={0x12345: b"user"},
        own={"a": 1},
    )
    plan = layout(full, [(0x1000, 0x2000), (0x5000, 0x6000)])
    file = Builder()
    at = file.put(bytes(0x100))
    file.stream(Type.MemoryListStream, struct.pack("<IQII", 1, 0x1000, 0x100, at))
    file.stream(Type.SystemInfoStream, dbghelp.MINIDUMP_SYSTEM_INFO())
    file.stream(Type.ExceptionStream, dbghelp.MINIDUMP_EXCEPTION_STREAM())
    file.stream(
        Type.UnloadedModuleListStream,
        *(struct.pack("<III", 12, 24, 1), dbghelp.MINIDUMP_UNLOADED_MODULE()),
    )
    return [plan.header.ljust(plan.file_size, b"\0"), file.bytes()]


CORPUS = corpus()


def read(data: bytes) -> None:
    """Read a file that may be damaged: any other error than DumpFormatError is a failure."""
    try:
        dump = read_minidump(io.BytesIO(data))
    except DumpFormatError:
        return
    end = 0
    for segment in dump.segments:
        assert end <= segment.start < segment.end <= 2**64
        assert segment.offset + segment.end - segment.start <= len(data)
        end = segment.end
    repr(dump)


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_corpus_is_sound(number: int) -> None:
    assert read_minidump(io.BytesIO(CORPUS[number])).segments


@pytest.mark.parametrize("number", range(len(CORPUS)))
@pytest.mark.parametrize("value", [0, 1, 0x7FFF_FFFF, 0xFFFF_FFF0, 0xFFFF_FFFF])
def test_every_number_overwritten(number: int, value: int) -> None:
    data = CORPUS[number].rstrip(b"\0")
    padding = bytes(len(CORPUS[number]) - len(data))
    for at in range(0, len(data), 4):
        read(data[:at] + value.to_bytes(4, "little") + data[at + 4 :] + padding)


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_every_cut(number: int) -> None:
    size = len(CORPUS[number].rstrip(b"\0"))
    for end in range(size):
        with pytest.raises(DumpFormatError):
            read_minidump(io.BytesIO(CORPUS[number][:end]))


edits = st.lists(
    st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=9)), min_size=1, max_size=8
)


@unhurried
@given(st.sampled_from(CORPUS), edits)
def test_random_edits(data: bytes, edits: list[tuple[int, bytes]]) -> None:
    content = bytearray(data)
    for at, patch in edits:
        content[at : at + len(patch)] = patch
    read(bytes(content))


@unhurried
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    read(data)
    read(CORPUS[0][:32] + data)


class Endless(io.BytesIO):
    """Claims to have 2**40 bytes, and counts what is really taken out of it."""

    taken = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return 1 << 40 if whence == 2 else super().seek(offset)

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 28
        self.taken += size
        return super().read(size).ljust(size, b"\xff") if size < 1 << 20 else bytes(size)


def hostile(kind: int, content: bytes, size: int = 0xFFFF_FFFF) -> bytes:
    """A file with one stream of `size` bytes that starts with `content`."""
    head = dbghelp.MINIDUMP_HEADER(0x504D444D, 42899, 1, 32)
    return bytes(head) + struct.pack("<III", kind, size, 44) + content


MANY: list[Callable[[], bytes]] = [
    lambda: hostile(3, struct.pack("<I", 0xFFFF_FFFF)),
    lambda: hostile(4, struct.pack("<I", 0x0100_0000), 0x0FFF_FFFF),
    lambda: hostile(9, struct.pack("<QQ", 0x00FF_FFFF, 0), 0x0FFF_FFFF),
    lambda: hostile(16, struct.pack("<IIQ", 16, 48, 1 << 60), 0x0FFF_FFFF),
    lambda: hostile(16, struct.pack("<IIQ", 16, 0, 1 << 60), 0x0FFF_FFFF),
    lambda: hostile(12, struct.pack("<IIII", 16, 32, 1 << 23, 0), 0x0FFF_FFFF),
    lambda: hostile(15, b"", 3),
    lambda: hostile(0x4D444D50, b"[" * 100_000, 100_000),
    lambda: hostile(0x4D444D50, b"[]", 2),
    lambda: hostile(0x4D444D50, b"{}", 1 << 23),
    lambda: bytes(dbghelp.MINIDUMP_HEADER(0x504D444D, 42899, 0xFFFF_FFFF, 32)),
]


@pytest.mark.parametrize("make", MANY)
def test_counts_are_bounded(make: Callable[[], bytes]) -> None:
    file = Endless(make())
    with pytest.raises(DumpFormatError):
        read_minidump(file)
    assert file.taken <= 1 << 28


def test_many_entries_of_one_text_cost_one_copy() -> None:
    file = Builder()
    text = file.string("x" * 32000)
    handle = dbghelp.MINIDUMP_HANDLE_DESCRIPTOR(TypeNameRva=text, ObjectNameRva=text)
    head = dbghelp.MINIDUMP_HANDLE_DATA_STREAM(16, 32, 50_000)
    file.stream(Type.HandleDataStream, head, bytes(handle) * 50_000)
    handles = file.read().streams.handles
    assert len({id(name) for handle in handles for name in handle[1:3]}) == 1


def test_many_copies_of_one_context_are_refused() -> None:
    file = Builder()
    context = file.put(bytes(1 << 16))
    thread = dbghelp.MINIDUMP_THREAD(ThreadContext=(1 << 16, context))
    file.stream(Type.ThreadListStream, struct.pack("<I", 5000), bytes(thread) * 5000)
    with pytest.raises(DumpFormatError, match="too large"):
        file.read()
