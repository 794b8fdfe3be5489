"""Minidumps as targets."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minidumper.dbghelp import CONTEXT_AMD64, CONTEXT_X86
from minidumper.dumpfile import DumpFile, open_dump
from minidumper.errors import DumpFormatError, MemoryFaultError
from minidumper.formats.minidump import (
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    SystemInfo,
    Thread,
)
from minidumper.formats.minidump_writer import layout
from minidumper.ranges import MemoryRange
from minidumper.target import ModuleInfo, ThreadInfo, VmRegion

IMAGE = 0x7FFA_0000_0000
CONTEXT = bytes(CONTEXT_AMD64(Rip=IMAGE + 0x123, Rsp=0x10_0800))
STREAMS = MinidumpStreams(
    system=SystemInfo(9),
    misc=MiscInfo(4711),
    modules=(
        Module(IMAGE, 0x3000, "C:\\app\\app.exe", timestamp=0x65A),
        Module(IMAGE - 0x10000, 0x1000, "C:\\app\\lib.dll"),
        Module(IMAGE + 0x10000, 0x1000, "C:\\app\\app.exe"),
    ),
    threads=(Thread(100, CONTEXT, MemoryRange(0x10_0800, 0x10_2000), 0x7000, name="main"),),
    regions=(
        RegionInfo(0x10_0000, 0x10_2000, 0x10_0000, 4, 0x1000, 4, 0x20000),
        RegionInfo(0x20_0000, 0x20_1000, 0x20_0000, 0x40, 0x1000, 0x140, 0x40000),
        RegionInfo(IMAGE, IMAGE + 0x1000, IMAGE, 0x80, 0x1000, 2, 0x1000000),
        RegionInfo(IMAGE + 0x1000, IMAGE + 0x2000, IMAGE, 0x80, 0x1000, 0x20, 0x1000000),
        RegionInfo(IMAGE + 0x2000, IMAGE + 0x3000, IMAGE, 0x80, 0x1000, 4, 0x1000000),
    ),
)
RANGES = [
    *((0x10_0000, 0x10_2000), (0x20_0000, 0x20_1000), (0x30_0000, 0x30_1000)),
    (IMAGE, IMAGE + 0x3000),
]


def write(path: Path, streams: MinidumpStreams = STREAMS) -> Path:
    """A file whose memory has its own address in every eighth byte; one page is a hole."""
    plan = layout(streams, RANGES)
    with open(path, "wb") as file:
        file.write(plan.header)
        file.truncate(plan.file_size)
        for start, end, offset in plan.segments:
            for page in range(start, end, 4096):
                if page != 0x10_1000:
                    file.seek(offset + page - start)
                    file.write(struct.pack("<512Q", *range(page, page + 4096, 8)))
    return path


@pytest.fixture
def dump(tmp_path: Path) -> Iterator[DumpFile]:
    with open_dump(write(tmp_path / "a.dmp")) as dump:
        yield dump


def test_process(dump: DumpFile) -> None:
    assert (dump.pid, dump.name, dump.note) == (4711, "app", None)


def test_our_own_name_comes_first(tmp_path: Path) -> None:
    with open_dump(write(tmp_path / "a.dmp", replace(STREAMS, own={"name": "Shop"}))) as dump:
        assert dump.name == "Shop"


def test_a_dump_that_tells_nothing(tmp_path: Path) -> None:
    with open_dump(write(tmp_path / "a.dmp", MinidumpStreams())) as dump:
        assert (dump.pid, dump.name, dump.process) == (0, "a.dmp", None)
        assert (list(dump.threads()), list(dump.modules())) == ([], [])
        assert list(dump.regions()) == [VmRegion(start, end, "r--p") for start, end in RANGES]


def test_threads(dump: DumpFile) -> None:
    assert list(dump.threads()) == [
        ThreadInfo(100, IMAGE + 0x123, 0x10_0800, CONTEXT, name="main", teb=0x7000)
    ]


def test_threads_of_x86(tmp_path: Path) -> None:
    context = bytes(CONTEXT_X86(Eip=0x1234, Esp=0x5678))
    threads = (Thread(1, context), Thread(2, b"", MemoryRange(0x9000, 0xA000)))
    streams = MinidumpStreams(system=SystemInfo(0), threads=threads)
    with open_dump(write(tmp_path / "a.dmp", streams)) as dump:
        assert [(t.ip, t.sp) for t in dump.threads()] == [(0x1234, 0x5678), (0, 0x9000)]


def test_modules(dump: DumpFile) -> None:
    assert list(dump.modules()) == [
        ModuleInfo("C:\\app\\lib.dll", IMAGE - 0x10000, IMAGE - 0xF000, "000000001000"),
        ModuleInfo("C:\\app\\app.exe", IMAGE, IMAGE + 0x3000, "0000065A3000"),
    ]


def test_regions(dump: DumpFile) -> None:
    name = "C:\\app\\app.exe"
    assert list(dump.regions()) == [
        VmRegion(0x10_0000, 0x10_2000, "rw-p"),
        VmRegion(0x20_0000, 0x20_1000, "rwxs"),
        VmRegion(0x30_0000, 0x30_1000, "r--p"),
        VmRegion(IMAGE, IMAGE + 0x1000, "r--p", 0, name),
        VmRegion(IMAGE + 0x1000, IMAGE + 0x2000, "r-xp", 0x1000, name),
        VmRegion(IMAGE + 0x2000, IMAGE + 0x3000, "rw-p", 0x2000, name),
    ]


def test_pages_that_were_written(dump: DumpFile) -> None:
    *_, code, data = dump.regions()
    assert list(dump.modified_pages(code)) == []
    assert list(dump.modified_pages(data)) == [MemoryRange(IMAGE + 0x2000, IMAGE + 0x3000)]


def test_memory(dump: DumpFile) -> None:
    for start, end in RANGES:
        for address in (start, end - 8):
            if address & ~0xFFF != 0x10_1000:
                assert dump.memory.read(address, 8) == struct.pack("<Q", address)
    assert dump.memory.read(0x10_1000, 16) == bytes(16)
    with pytest.raises(MemoryFaultError):
        dump.memory.read(0x10_1FF8, 16)


def test_memory_source(dump: DumpFile) -> None:
    source = dump.memory_source()
    assert [(start, end) for start, end, _ in source.table] == RANGES
    assert not source.is_process


def test_holes_need_not_be_read(dump: DumpFile) -> None:
    span = MemoryRange(0x10_0000, 0x10_2000)
    assert 0x1000 <= sum(r.size for r in dump.resident(dump.regions(), span)) <= 0x2000
    assert list(dump.resident(dump.regions(), MemoryRange(0x40_0000, 0x50_0000))) == []


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dmp")
    with open(path, "r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    with pytest.raises(DumpFormatError, match=r"a\.dmp: the file is cut") as caught:
        open_dump(path)
    assert caught.value.path == str(path)
