"""Minidumps of the native writer as skelsec's `minidump` reads them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from minidump.minidumpfile import MinidumpFile

from minidumper.dbghelp import CONTEXT_AMD64
from minidumper.dumpfile import open_dump
from minidumper.formats.minidump import (
    ExceptionInfo,
    Handle,
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    SystemInfo,
    Thread,
    ThreadDetails,
    UnloadedModule,
)
from minidumper.formats.minidump_reader import read_minidump
from minidumper.formats.minidump_writer import layout
from minidumper.platforms.windows.sinks import FileSink
from minidumper.ranges import MemoryRange

TEB = 0x7FF0_0000_0000
RANGES = [(0x10_0000, 0x10_3000), (TEB, TEB + 0x2000), (0x7FFA_0000_0000, 0x7FFA_0000_1000)]
STREAMS = MinidumpStreams(
    system=SystemInfo(9, 25, 257, 8, 3, 10, 0, 20348, 2, "", 256),
    misc=MiscInfo(4711, 1_700_000_000, 12, 3),
    modules=(
        Module(0x7FFA_0000_0000, 0x40_0000, "C:\\dotnet\\coreclr.dll", 5, 6, cv_record=b"RSDS" * 8),
        Module(0x7FFB_0000_0000, 0x1000, "C:\\é.dll"),
    ),
    unloaded_modules=(UnloadedModule(0x1_8000_0000, 0x8000, "gone.dll"),),
    threads=(
        Thread(
            *(100, bytes(CONTEXT_AMD64(Rip=0x7FFA_0000_0123, Rsp=0x10_0800))),
            *(MemoryRange(0x10_0800, 0x10_3000), TEB),
            details=ThreadDetails(exit_status=0x103, start_address=0x7FFA_0000_0100),
        ),
    ),
    regions=(RegionInfo(0x10_0000, 0x10_3000, 0x10_0000, 4, 0x1000, 4, 0x20000),),
    exception=ExceptionInfo(100, 0xC0000005, 0x7FFA_0000_0123, parameters=(1, 0xDEAD)),
    handles=(Handle(4, "Event", "\\named"),),
    comment="taken by a test",
    own={"mode": "heap"},
)


def contents() -> bytes:
    """A file whose memory has its own address in every eighth byte."""
    plan = layout(STREAMS, RANGES)
    memory = [struct.pack("<Q", a) for start, end in RANGES for a in range(start, end, 8)]
    return plan.header + b"".join(memory)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return MinidumpFile.parse_buff(io.BytesIO(contents()))


def test_system_and_process(theirs: Any) -> None:
    assert theirs.sysinfo.ProcessorArchitecture.name == "AMD64"
    assert (theirs.sysinfo.BuildNumber, theirs.sysinfo.NumberOfProcessors) == (20348, 8)
    assert theirs.misc_info.ProcessId == 4711
    assert theirs.misc_info.ProcessCreateTime == 1_700_000_000


def test_modules(theirs: Any) -> None:
    assert [(m.name, m.baseaddress, m.size) for m in theirs.modules.modules] == [
        (m.name, m.base, m.size) for m in STREAMS.modules
    ]
    assert [m.name for m in theirs.unloaded_modules.modules] == ["gone.dll"]


def test_threads(theirs: Any) -> None:
    (thread,) = theirs.threads.threads
    assert (thread.ThreadId, thread.Teb) == (100, TEB)
    assert (thread.Stack.StartOfMemoryRange, thread.Stack.DataSize) == (0x10_0800, 0x2800)
    assert (thread.ContextObject.Rip, thread.ContextObject.Rsp) == (0x7FFA_0000_0123, 0x10_0800)
    (info,) = theirs.thread_info.infos
    assert (info.ThreadId, info.StartAddress) == (100, 0x7FFA_0000_0100)


def test_exception_and_regions(theirs: Any) -> None:
    (record,) = theirs.exception.exception_records
    assert record.ThreadId == 100
    assert record.ExceptionRecord.ExceptionCode_raw == 0xC0000005
    assert record.ExceptionRecord.ExceptionInformation == [1, 0xDEAD]
    (region,) = theirs.memory_info.infos
    assert (region.BaseAddress, region.RegionSize) == (0x10_0000, 0x3000)
    assert (region.State.name, region.Type.name) == ("MEM_COMMIT", "MEM_PRIVATE")


def test_handles_and_comment(theirs: Any) -> None:
    (handle,) = theirs.handles.handles
    assert (handle.Handle, handle.TypeName, handle.ObjectName) == (4, "Event", "\\named")
    assert theirs.comment_w.data.rstrip("\0") == STREAMS.comment


def test_memory(theirs: Any) -> None:
    segments = theirs.memory_segments_64.memory_segments
    assert [(s.start_virtual_address, s.end_virtual_address) for s in segments] == RANGES
    reader = theirs.get_reader()
    for start, end in RANGES:
        for address in (start, end - 8):
            assert reader.read(address, 8) == struct.pack("<Q", address)


def test_both_readers_find_memory_at_the_same_place(theirs: Any) -> None:
    ours = read_minidump(io.BytesIO(contents()))
    assert [(s.start, s.end, s.offset) for s in ours.segments] == [
        (s.start_virtual_address, s.end_virtual_address, s.start_file_address)
        for s in theirs.memory_segments_64.memory_segments
    ]


@pytest.mark.gate("linux")  # where files have holes
def test_memory_beyond_4_gb(tmp_path: Path) -> None:
    ranges = [MemoryRange(n << 40, (n << 40) + (3 << 30)) for n in (1, 2, 3)]
    plan = layout(STREAMS, ranges)
    path = tmp_path / "large.dmp"
    with open(path, "wb") as file:
        sink = FileSink(file.fileno())
        sink.put(0, memoryview(plan.header))
        for start, end, offset in plan.segments:
            sink.put(offset + end - start - 8, memoryview(struct.pack("<Q", end - 8)))
    assert path.stat().st_size == sink.size == plan.file_size > 9 << 30
    with open_dump(path) as dump:
        assert [dump.memory.read(end - 8, 8) for _, end in ranges] == [
            struct.pack("<Q", end - 8) for _, end in ranges
        ]
    theirs = MinidumpFile.parse(str(path))
    try:
        segments = theirs.memory_segments_64.memory_segments
        assert [(s.start_virtual_address, s.end_virtual_address) for s in segments] == ranges
        assert [s.start_file_address for s in segments] == [s.offset for s in plan.segments]
    finally:
        theirs.file_handle.close()
