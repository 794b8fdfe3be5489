"""Dump files as targets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidumper.dumpfile import DumpFile, open_dump
from minidumper.errors import DumpFormatError, MemoryFaultError
from minidumper.formats.elfcore import layout
from minidumper.formats.elfnotes import (
    NT_FPREGSET,
    NT_PRSTATUS,
    CoreNotes,
    CoreThread,
    MappedFile,
    ProcessInfo,
)
from minidumper.ranges import MemoryRange

NOTES = CoreNotes(
    process=ProcessInfo(100, name="dotnet", args="dotnet app.dll"),
    auxv={3: 0x400040},
    files=(
        MappedFile(0x40_1000, 0x40_2000, 0, "/lib/a.so"),
        MappedFile(0x40_2000, 0x40_4000, 0x1000, "/lib/a.so"),
        MappedFile(0x50_0000, 0x50_1000, 0x3000, "/data/middle"),
        MappedFile(0x60_0000, 0x60_1000, 0, "/lib/b.so"),
    ),
    threads=(
        CoreThread(
            100,
            {NT_PRSTATUS: b"".join((1000 + i).to_bytes(8, "little") for i in range(27))}
            | {NT_FPREGSET: b"f" * 512},
            siginfo=b"s" * 128,
            signal=6,
        ),
    ),
    own={"mode": "heap"},
)
SEGMENTS = [
    (0x40_0000, 0x40_3000, 4),
    (0x40_3000, 0x40_4000, 6),
    (0x7000_0000, 0x7000_4000, 6),
]


def write_core(path: Path, holes: tuple[int, ...] = ()) -> None:
    """A core whose pages are each full of a number of their own; `holes` are not written."""
    plan = layout(NOTES, SEGMENTS)
    with open(path, "wb") as file:
        file.write(plan.header)
        file.truncate(plan.file_size)
        for start, end, _, offset in plan.segments:
            for address in range(start, end, 4096):
                if address not in holes:
                    file.seek(offset + address - start)
                    file.write(page(address))


def page(address: int) -> bytes:
    return (address >> 12).to_bytes(8, "little") * 512


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DumpFile]:
    path = tmp_path_factory.mktemp("dump") / "core"
    write_core(path)
    with open_dump(path) as dump:
        yield dump


def test_what_it_tells(dump: DumpFile) -> None:
    assert (dump.pid, dump.name) == (100, "dotnet")
    assert dump.process == NOTES.process
    assert dump.note == {"mode": "heap"}
    assert dump.auxv == {3: 0x400040}
    with dump.stopped():
        (thread,) = dump.threads()
    assert (thread.tid, thread.ip, thread.sp, thread.signal) == (100, 1016, 1019, 6)
    assert len(thread.context) == 0x4D0
    assert thread.siginfo == b"s" * 128


def test_regions_know_their_files(dump: DumpFile) -> None:
    found = [(r.start, r.end, r.protection, r.offset, r.path) for r in dump.regions()]
    assert found == [
        (0x40_0000, 0x40_1000, "r--p", 0, ""),
        (0x40_1000, 0x40_2000, "r--p", 0, "/lib/a.so"),
        (0x40_2000, 0x40_3000, "r--p", 0x1000, "/lib/a.so"),
        (0x40_3000, 0x40_4000, "rw-p", 0x2000, "/lib/a.so"),
        (0x7000_0000, 0x7000_4000, "rw-p", 0, ""),
    ]
    assert [r.is_file for r in dump.regions()] == [False, True, True, True, False]
    modified = [r for r in dump.regions() if dump.modified_pages(r)]
    assert modified == [r for r in dump.regions() if r.protection[1] == "w"]


def test_modules(dump: DumpFile) -> None:
    assert [(m.path, m.base, m.end) for m in dump.modules()] == [
        ("/lib/a.so", 0x40_1000, 0x40_4000),
        ("/lib/b.so", 0x60_0000, 0x60_1000),
    ]


def test_reads_cross_segments_and_stop_at_gaps(dump: DumpFile) -> None:
    whole = b"".join(page(a) for a in range(0x40_0000, 0x40_4000, 4096))
    assert dump.memory.read(0x40_0000, 0x4000) == whole
    assert dump.memory.read(0x40_2FFC, 8) == whole[0x2FFC:0x3004]
    assert dump.memory.read(0x40_0000, 0) == b""
    buffer = bytearray(0x3000)
    assert dump.memory.read_into(0x40_2000, memoryview(buffer)) == 0x2000
    assert buffer == whole[0x2000:] + bytes(0x1000)
    assert dump.memory.read_into(0x50_0000, memoryview(buffer)) == 0


@given(st.integers(0, 2**64), st.integers(1, 2**64))
def test_absent_memory_is_a_fault_whatever_is_asked(
    dump: DumpFile, address: int, size: int
) -> None:
    held = [(0x40_0000, 0x40_4000), (0x7000_0000, 0x7000_4000)]
    if any(start <= address and address + size <= end for start, end in held):
        return
    with pytest.raises(MemoryFaultError) as caught:
        dump.memory.read(address, size)
    assert (caught.value.address, caught.value.size) == (address, size)


def test_memory_source_reads_the_same(dump: DumpFile) -> None:
    source = dump.memory_source()
    assert not source.is_process
    with open(os.dup(source.descriptor), "rb") as file:
        for start, end, offset in source.table:
            file.seek(offset)
            assert file.read(end - start) == dump.memory.read(start, end - start)


@pytest.mark.gate("linux")  # sparse files
def test_holes_are_not_resident(tmp_path: Path) -> None:
    holes = (0x40_1000, 0x7000_0000, 0x7000_2000, 0x7000_3000)
    write_core(tmp_path / "core", holes)
    with open_dump(tmp_path / "core") as dump:
        regions = dump.regions()
        found = dump.resident(regions, MemoryRange(0x40_0000, 0x8000_0000))
        assert found == [
            (0x40_0000, 0x40_1000),
            (0x40_2000, 0x40_4000),
            (0x7000_1000, 0x7000_2000),
        ]
        assert dump.resident(regions, MemoryRange(0x40_0000, 0x40_1000)) == [found[0]]
        assert dump.resident(regions, MemoryRange(0x7000_2000, 0x7000_4000)) == []
        assert dump.memory.read(0x7000_2000, 0x2000) == bytes(0x2000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither an ELF core nor any other dump"),
        (b"MDMP" + bytes(100), "not a minidump"),
        (b"\x7fELF", "the header is missing"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.dmp"
    path.write_bytes(content)
    with pytest.raises(DumpFormatError, match=message) as caught:
        open_dump(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DumpFormatError, match=r"cannot open .*No such file"):
        open_dump(tmp_path / "none")
