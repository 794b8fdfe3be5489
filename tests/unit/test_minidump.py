"""Minidumps: what is written is read again, and records are as Microsoft lays them out."""

from __future__ import annotations

import ctypes
import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidumper import dbghelp
from minidumper.errors import CaptureError, DumpFormatError
from minidumper.formats import minidump as records
from minidumper.formats.minidump import (
    CodeView,
    ExceptionInfo,
    Handle,
    MemorySegment,
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    SystemInfo,
    Thread,
    ThreadDetails,
    UnloadedModule,
    file_version,
    parse_codeview,
)
from minidumper.formats.minidump_reader import read_minidump
from minidumper.formats.minidump_writer import MinidumpLayout, layout
from minidumper.ranges import MemoryRange

GUID = bytes.fromhex("33221100554477668899aabbccddeeff")
RSDS = b"RSDS" + GUID + b"\x0a\0\0\0" + b"C:\\b\\coreclr.pdb\0"
FIXED = struct.pack("<13I", 0xFEEF04BD, 0x10000, 0xA0000, 0xE0029, 0, 0, 0, 0, 0, 0, 0, 0, 0)
EVERYTHING = MinidumpStreams(
    system=SystemInfo(9, 25, 257, 16, 1, 10, 0, 20348, 2, "pack", 256, bytes(range(24))),
    misc=MiscInfo(4711, 1_700_000_000, 12, 3, 0x3000, "20348.1 (WinBuild)", "dbgcore"),
    modules=(
        Module(0x7FF6_0000_0000, 0x20000, "C:\\app\\app.exe", 0x1234, 0x65000000, FIXED, RSDS),
        Module(0x7FFA_0000_0000, 0x400000, "C:\\dotnet\\coreclr.dll", misc_record=b"m" * 8),
    ),
    unloaded_modules=(UnloadedModule(0x1_8000_0000, 0x8000, "gone.dll", 7, 8),),
    threads=(
        Thread(100, b"c" * 1232, MemoryRange(0x10_0800, 0x11_0000), 0x7FF0_0000, 1, 32, 8, "main"),
        Thread(
            101, b"d" * 1232, MemoryRange(0x20_0800, 0x21_0000), details=ThreadDetails(affinity=3)
        ),
    ),
    regions=(RegionInfo(0x10_0000, 0x11_0000, 0x10_0000, 4, 0x1000, 4, 0x20000),),
    exception=ExceptionInfo(101, 0xE0434352, 0x7FFA_1234, 1, 0, (0x80131500, 2), b"e" * 1232),
    handles=(Handle(4, "Event", "\\named"), Handle(8, "File", "", 0, 0x120089, 1, 2)),
    comment="taken by a test: é \U0001f600",
    user_streams={0x10000: b"user", 0xFFFF_FFFF: b""},
    own={"mode": "heap", "warnings": ["ä"]},
)
RANGES = [(0x10_0000, 0x11_0000), (0x20_0000, 0x21_0000), (0x1_0000_0000, 0x1_0000_3000)]

unhurried = settings(deadline=None)
"""A busy machine is no failure."""


def written(plan: MinidumpLayout) -> io.BytesIO:
    """The file, its memory being a hole."""
    return io.BytesIO(plan.header.ljust(plan.file_size, b"\0"))


def test_all_is_read_again() -> None:
    plan = layout(EVERYTHING, RANGES, timestamp=1_700_000_100)
    dump = read_minidump(written(plan))
    assert dump.streams == EVERYTHING
    assert dump.segments == plan.segments
    assert dump.timestamp == 1_700_000_100
    assert dump.flags == 0x2 | 0x4 | 0x20 | 0x800 | 0x1000
    assert dump.directory[-1].type == records.MEMORY64_LIST


def test_nothing_is_read_again() -> None:
    plan = layout(MinidumpStreams(), [])
    dump = read_minidump(written(plan))
    assert (dump.streams, dump.segments, dump.flags) == (MinidumpStreams(), (), 0x2)


texts = st.text(max_size=40).filter(lambda text: "\0" not in text)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
threads = st.builds(
    Thread,
    tid=u32,
    context=st.binary(max_size=64),
    stack=st.builds(lambda start, size: MemoryRange(start, start + size), u64, u32),
    teb=u64,
    suspend_count=u32,
    priority_class=u32,
    priority=u32,
    name=texts,
    details=st.none() | st.builds(ThreadDetails, *[u32] * 3, *[u64] * 6),
)
modules = st.builds(
    Module,
    *(u64, u32, texts, u32, u32),
    st.just(b"") | st.binary(min_size=52, max_size=52).filter(any),
    st.binary(max_size=50),
    st.binary(max_size=50),
)
streams = st.builds(
    MinidumpStreams,
    modules=st.lists(modules, max_size=4).map(tuple),
    threads=st.lists(threads, max_size=4, unique_by=lambda t: t.tid).map(tuple),
    handles=st.lists(st.builds(Handle, u64, texts, texts, *[u32] * 4), max_size=4).map(tuple),
    comment=texts,
    user_streams=st.dictionaries(
        st.integers(0x10000, 2**32 - 1).filter(lambda n: n != records.OWN_STREAM),
        st.binary(max_size=30),
        max_size=3,
    ),
    own=st.none() | st.dictionaries(st.text(max_size=5), st.integers() | st.text(), max_size=3),
)


@unhurried
@given(streams)
def test_whatever_is_written_is_read_again(content: MinidumpStreams) -> None:
    assert read_minidump(written(layout(content, RANGES))).streams == content


@unhurried
@given(st.lists(st.integers(1, 2**52 - 1), unique=True, max_size=20))
def test_each_range_has_its_place(pages: list[int]) -> None:
    edges = [page << 12 for page in sorted(pages)]
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    plan = layout(EVERYTHING, ranges)
    offset = len(plan.header)
    assert offset % 4096 == 0
    for (start, end), segment in zip(ranges, plan.segments, strict=True):
        assert segment == MemorySegment(start, end, offset)
        offset += end - start
    assert plan.file_size == offset


def test_memory_above_4_gb_keeps_its_offsets() -> None:
    ranges = [(0x1000, 0x3_0000_0000), (0x7000_0000_0000, 0x7000_0000_1000)]
    plan = layout(MinidumpStreams(), ranges)

    class Sparse(io.BytesIO):
        """Only the header is there, and the size is that of the whole file."""

        def seek(self, offset: int, whence: int = 0) -> int:
            return plan.file_size if whence == 2 else super().seek(offset, whence)

    assert read_minidump(Sparse(plan.header)).segments == plan.segments
    assert plan.segments[1].offset > 2**32


@pytest.mark.parametrize(
    "ranges",
    [[(0x2000, 0x3000), (0x1000, 0x2000)], [(0x1000, 0x3000), (0x2000, 0x4000)], [(1, 1)]],
)
def test_bad_ranges_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(CaptureError, match="overlaps"):
        layout(EVERYTHING, ranges)


@pytest.mark.parametrize("kind", [3, 0xFFFF, records.OWN_STREAM, 2**32])
def test_a_user_stream_must_have_a_type_of_its_own(kind: int) -> None:
    with pytest.raises(CaptureError, match="user stream"):
        layout(MinidumpStreams(user_streams={kind: b""}), [])


def test_streams_can_grow_into_the_spare_bytes() -> None:
    plan = layout(EVERYTHING, RANGES, spare=8192, timestamp=5)
    more = MinidumpStreams(own={"warnings": ["x" * 4000]}, comment="y" * 2000)
    grown = plan.with_streams(more)
    assert (grown.segments, grown.file_size) == (plan.segments, plan.file_size)
    dump = read_minidump(written(grown))
    assert (dump.streams, dump.segments, dump.timestamp) == (more, plan.segments, 5)
    with pytest.raises(CaptureError, match="kept free"):
        plan.with_streams(MinidumpStreams(comment="y" * 20000))


def test_codeview() -> None:
    key = "00112233445566778899AABBCCDDEEFFA"
    assert parse_codeview(RSDS) == CodeView(key, "C:\\b\\coreclr.pdb")
    nb10 = b"NB10" + struct.pack("<III", 0, 0x3B7D84D4, 2) + b"old.pdb\0"
    assert parse_codeview(nb10) == CodeView("3B7D84D42", "old.pdb")
    assert parse_codeview(b"BpEL\x01\x02") == CodeView("0102")
    assert parse_codeview(RSDS[:20]) is None
    assert parse_codeview(b"") is None
    assert EVERYTHING.modules[0].codeview == CodeView(key, "C:\\b\\coreclr.pdb")


def test_file_version() -> None:
    assert file_version(FIXED) == EVERYTHING.modules[0].version == "10.0.14.41"
    assert file_version(b"") == file_version(bytes(52)) == ""


LAYOUTS: list[tuple[struct.Struct, Any]] = [
    (records.HEADER, dbghelp.MINIDUMP_HEADER),
    (records.DIRECTORY, dbghelp.MINIDUMP_DIRECTORY),
    (records.STRING, dbghelp.MINIDUMP_STRING),
    (records.COUNT, dbghelp.MINIDUMP_THREAD_LIST),
    (records.LIST, dbghelp.MINIDUMP_THREAD_INFO_LIST),
    (records.LIST, dbghelp.MINIDUMP_UNLOADED_MODULE_LIST),
    (records.THREAD, dbghelp.MINIDUMP_THREAD),
    (records.THREAD_EX, dbghelp.MINIDUMP_THREAD_EX),
    (records.THREAD_INFO, dbghelp.MINIDUMP_THREAD_INFO),
    (records.THREAD_NAME, dbghelp.MINIDUMP_THREAD_NAME),
    (records.MODULE, dbghelp.MINIDUMP_MODULE),
    (records.UNLOADED_MODULE, dbghelp.MINIDUMP_UNLOADED_MODULE),
    (records.MEMORY_DESCRIPTOR, dbghelp.MINIDUMP_MEMORY_DESCRIPTOR),
    (records.MEMORY64, dbghelp.MINIDUMP_MEMORY_DESCRIPTOR64),
    (records.MEMORY64, dbghelp.MINIDUMP_MEMORY64_LIST),
    (records.MEMORY_INFO_HEADER, dbghelp.MINIDUMP_MEMORY_INFO_LIST),
    (records.MEMORY_INFO, dbghelp.MINIDUMP_MEMORY_INFO),
    (records.EXCEPTION_RECORD, dbghelp.MINIDUMP_EXCEPTION_STREAM),
    (records.SYSTEM, dbghelp.MINIDUMP_SYSTEM_INFO),
    (records.MISC, dbghelp.MINIDUMP_MISC_INFO),
    (records.MISC_4, dbghelp.MINIDUMP_MISC_INFO_4),
    (records.HANDLE_HEADER, dbghelp.MINIDUMP_HANDLE_DATA_STREAM),
    (records.HANDLE, dbghelp.MINIDUMP_HANDLE_DESCRIPTOR),
]


@pytest.mark.parametrize(("ours", "theirs"), LAYOUTS)
def test_sizes_are_microsofts(ours: struct.Struct, theirs: Any) -> None:
    assert ours.size == ctypes.sizeof(theirs)


class Microsoft:
    """A file seen through the structures of `minidumper.dbghelp`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        header = self.at(dbghelp.MINIDUMP_HEADER, 0)
        assert (header.Signature, header.Version) == (0x504D444D, 42899)
        rows = (dbghelp.MINIDUMP_DIRECTORY * header.NumberOfStreams).from_buffer_copy(
            data, header.StreamDirectoryRva
        )
        self.streams = {row.StreamType: row.Location.Rva for row in rows}

    def at(self, kind: Any, rva: int) -> Any:
        return kind.from_buffer_copy(self.data, rva)

    def second(self, kind: int, head: Any, row: Any) -> Any:
        """The second record of a list stream."""
        return self.at(row, self.streams[kind] + ctypes.sizeof(head) + ctypes.sizeof(row))

    def string(self, rva: int) -> str:
        (size,) = struct.unpack_from("<I", self.data, rva)
        assert self.data[rva + 4 + size :][:2] == b"\0\0"
        return self.data[rva + 4 : rva + 4 + size].decode("utf-16-le")


def test_microsofts_structures_see_the_same() -> None:
    file = Microsoft(layout(EVERYTHING, RANGES).header)

    system = file.at(dbghelp.MINIDUMP_SYSTEM_INFO, file.streams[records.SYSTEM_INFO])
    assert (system.ProcessorArchitecture, system.ProcessorLevel) == (9, 25)
    assert (system.NumberOfProcessors, system.ProductType) == (16, 1)
    assert (system.BuildNumber, system.PlatformId, system.SuiteMask) == (20348, 2, 256)
    assert bytes(system.Cpu) == bytes(range(24))
    assert file.string(system.CSDVersionRva) == "pack"

    misc = file.at(dbghelp.MINIDUMP_MISC_INFO_4, file.streams[records.MISC_INFO])
    assert (misc.SizeOfInfo, misc.Flags1, misc.ProcessId) == (832, 0x113, 4711)
    assert (misc.ProcessCreateTime, misc.ProcessUserTime) == (1_700_000_000, 12)
    assert (misc.ProcessKernelTime, misc.ProcessIntegrityLevel) == (3, 0x3000)
    assert dbghelp.wide_string(ctypes.addressof(misc.BuildString)) == "20348.1 (WinBuild)"
    assert dbghelp.wide_string(ctypes.addressof(misc.DbgBldStr)) == "dbgcore"

    thread = file.second(records.THREAD_LIST, ctypes.c_uint32, dbghelp.MINIDUMP_THREAD)
    assert (thread.ThreadId, thread.Teb) == (101, 0)
    assert (thread.Stack.StartOfMemoryRange, thread.Stack.Memory.DataSize) == (0x20_0800, 0xF800)
    assert (thread.Stack.Memory.Rva, thread.ThreadContext.Rva % 16) == (0, 0)
    context = file.data[thread.ThreadContext.Rva :][: thread.ThreadContext.DataSize]
    assert context == EVERYTHING.threads[1].context

    name = file.at(dbghelp.MINIDUMP_THREAD_NAME, file.streams[records.THREAD_NAMES] + 4)
    assert (name.ThreadId, file.string(name.RvaOfThreadName)) == (100, "main")
    info = file.at(dbghelp.MINIDUMP_THREAD_INFO, file.streams[records.THREAD_INFO_LIST] + 12)
    assert (info.ThreadId, info.ExitStatus, info.Affinity) == (101, 0x103, 3)

    module = file.at(dbghelp.MINIDUMP_MODULE, file.streams[records.MODULE_LIST] + 4)
    assert (module.BaseOfImage, module.SizeOfImage) == (0x7FF6_0000_0000, 0x20000)
    assert (module.CheckSum, module.TimeDateStamp) == (0x1234, 0x65000000)
    assert file.string(module.ModuleNameRva) == "C:\\app\\app.exe"
    assert module.VersionInfo.dwFileVersionLS == 0xE0029
    assert file.data[module.CvRecord.Rva :][: module.CvRecord.DataSize] == RSDS
    assert (module.MiscRecord.DataSize, module.Reserved1) == (0, 0)

    gone = file.at(
        dbghelp.MINIDUMP_UNLOADED_MODULE, file.streams[records.UNLOADED_MODULE_LIST] + 12
    )
    assert (gone.BaseOfImage, gone.TimeDateStamp) == (0x1_8000_0000, 8)

    region = file.at(dbghelp.MINIDUMP_MEMORY_INFO, file.streams[records.MEMORY_INFO_LIST] + 16)
    assert (region.BaseAddress, region.RegionSize) == (0x10_0000, 0x1_0000)
    assert (region.AllocationProtect, region.State, region.Type) == (4, 0x1000, 0x20000)

    thrown = file.at(dbghelp.MINIDUMP_EXCEPTION_STREAM, file.streams[records.EXCEPTION])
    assert (thrown.ThreadId, thrown.ExceptionRecord.ExceptionCode) == (101, 0xE0434352)
    assert (thrown.ExceptionRecord.ExceptionAddress, thrown.ThreadContext.DataSize) == (
        *(0x7FFA_1234, 1232),
    )
    assert thrown.ExceptionRecord.NumberParameters == 2
    assert thrown.ExceptionRecord.ExceptionInformation[:3] == [0x80131500, 2, 0]

    handle = file.second(
        *(records.HANDLE_DATA, dbghelp.MINIDUMP_HANDLE_DATA_STREAM),
        dbghelp.MINIDUMP_HANDLE_DESCRIPTOR,
    )
    assert (handle.Handle, file.string(handle.TypeNameRva), handle.ObjectNameRva) == (8, "File", 0)
    assert (handle.GrantedAccess, handle.PointerCount) == (0x120089, 2)

    memory = file.at(dbghelp.MINIDUMP_MEMORY64_LIST, file.streams[records.MEMORY64_LIST])
    assert (memory.NumberOfMemoryRanges, memory.BaseRva) == (3, len(file.data))


def test_values_are_microsofts() -> None:
    types = dbghelp.MINIDUMP_STREAM_TYPE
    assert dbghelp.MINIDUMP_SIGNATURE.to_bytes(4, "little") == records.MAGIC
    assert dbghelp.MINIDUMP_VERSION == records.VERSION
    assert types.LastReservedStream == records.LAST_RESERVED
    for name, key in {
        "THREAD_LIST": "ThreadList",
        "MODULE_LIST": "ModuleList",
        "MEMORY_LIST": "MemoryList",
        "EXCEPTION": "Exception",
        "SYSTEM_INFO": "SystemInfo",
        "MISC_INFO": "MiscInfo",
        "THREAD_EX_LIST": "ThreadExList",
        "MEMORY64_LIST": "Memory64List",
        "HANDLE_DATA": "HandleData",
        "UNLOADED_MODULE_LIST": "UnloadedModuleList",
        "MEMORY_INFO_LIST": "MemoryInfoList",
        "THREAD_INFO_LIST": "ThreadInfoList",
        "THREAD_NAMES": "ThreadNames",
    }.items():
        assert getattr(records, name) == types[f"{key}Stream"]
    assert (types.CommentStreamA, types.CommentStreamW) == (records.COMMENT_A, records.COMMENT_W)
    for name, key in {
        "WITH_FULL_MEMORY": "MiniDumpWithFullMemory",
        "WITH_HANDLE_DATA": "MiniDumpWithHandleData",
        "WITH_UNLOADED_MODULES": "MiniDumpWithUnloadedModules",
        "WITH_FULL_MEMORY_INFO": "MiniDumpWithFullMemoryInfo",
        "WITH_THREAD_INFO": "MiniDumpWithThreadInfo",
    }.items():
        assert getattr(records, name) == dbghelp.MINIDUMP_TYPE[key]


def test_what_is_no_minidump() -> None:
    for content in (b"", b"MDMP", b"\x7fELF" + bytes(60), b"MDMP" + bytes(60)):
        with pytest.raises(DumpFormatError):
            read_minidump(io.BytesIO(content))
