"""What `info` says of cores and minidumps of any writer, and of what is none."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidumper.cli import info as command
from minidumper.cli import main
from minidumper.dumpinfo import DumpInfo, dump_info
from minidumper.errors import DumpFormatError
from minidumper.formats.elf import EHDR, NHDR, PHDR, pack_note
from minidumper.formats.elfcore import SPECIAL_DIAG_INFO_ADDRESS, layout, special_diag_info
from minidumper.formats.elfnotes import (
    NT_FPREGSET,
    NT_PRSTATUS,
    CoreNotes,
    CoreThread,
    MappedFile,
    ProcessInfo,
)
from minidumper.formats.minidump import (
    ExceptionInfo,
    MinidumpStreams,
    MiscInfo,
    Module,
    SystemInfo,
    Thread,
)
from minidumper.formats.minidump_writer import layout as minidump_layout
from tests.support.pe import headers

RECORD = 0x7000_0010
NOTES_AT = EHDR.size + 3 * PHDR.size
OWN: dict[str, object] = {
    "version": "1.2",
    "time": "2026-11-24T08:00:00+00:00",
    "mode": "heap",
    "name": "app",
    "clr": {"server_gc": True},
    "warnings": [{"stage": "threads", "message": "thread 7 ended"}],
}


def core(path: Path, *, own: dict[str, object] | None = None, signal: int = 0) -> Path:
    """A core with the page of createdump and an exception record."""
    siginfo = struct.pack("<iii4xQ", signal, 0, 1, 0xDEAD0).ljust(128, b"\0")
    notes = CoreNotes(
        process=ProcessInfo(100, name="dotnet", args="dotnet app.dll "),
        files=(MappedFile(0x40_0000, 0x40_2000, 0, "/lib/a.so"),),
        threads=(
            CoreThread(100, {NT_PRSTATUS: bytes(216), NT_FPREGSET: bytes(512)}, siginfo, signal),
        ),
        own=own,
    )
    diag = SPECIAL_DIAG_INFO_ADDRESS
    plan = layout(notes, [(0x7000_0000, 0x7000_1000, 6), (diag, diag + 0x1000, 4)])
    with open(path, "wb") as file:
        file.write(plan.header)
        file.truncate(plan.file_size)
        file.seek(plan.segments[0].offset + 0x10)
        file.write(struct.pack("<IIQQ", 0xC0000005, 0, 0, 0x1234))
        file.seek(plan.segments[1].offset)
        file.write(special_diag_info(runtime_base=0, exception_record=RECORD))
    return path


def lines(info: DumpInfo) -> str:
    return "\n".join(command.text(info))


def test_our_own_dump_tells_how_it_was_made(tmp_path: Path) -> None:
    info = dump_info(core(tmp_path / "a.dmp", own=OWN))
    assert (info.writer, info.mode, info.time) == ("minidumper 1.2", "heap", OWN["time"])
    assert (info.pid, info.name, info.arguments) == (100, "app", "dotnet app.dll")
    assert info.warnings == ["threads: thread 7 ended"]
    assert info.facts["server_gc"] is True
    assert info.memory_blocks == 2
    assert info.memory_size == 0x2000
    assert info.size == os.path.getsize(tmp_path / "a.dmp")
    assert [row.number for row in info.contents if row.name == "NT_PRSTATUS"] == [1]
    assert "warning     threads: thread 7 ended" in lines(info)


def test_a_thread_stands_in_what_is_mapped_there(tmp_path: Path) -> None:
    """.NET maps a .dll as a file and as an image: what it made between them is neither's."""
    mapped = [
        *((0x40_0000, 0x40_2000, 0), (0x7000_0000, 0x7000_1000, 0)),  # the file; the headers of
        *((0x7000_1000, 0x7000_3000, 0), (0x7000_5000, 0x7000_6000, 0x1000)),  # the image
    ]
    places = {
        0x40_1000: "a.dll+0x1000",
        0x50_0000: "",
        0x7000_2000: "a.dll+0x2000",
        0x7000_4000: "a.dll+0x4000",
        0x7000_6000: "",
    }
    notes = CoreNotes(
        process=ProcessInfo(100),
        files=tuple(MappedFile(*row, "/app/a.dll") for row in mapped),
        threads=tuple(
            CoreThread(tid, {NT_PRSTATUS: struct.pack("<128xQ80x", ip), NT_FPREGSET: bytes(512)})
            for tid, ip in enumerate(places, 100)
        ),
    )
    plan = layout(notes, [(0x40_0000, 0x40_1000, 4), (0x7000_0000, 0x7000_1000, 4)])
    data = bytearray(plan.header.ljust(plan.file_size, b"\0"))
    for segment in plan.segments:
        data[segment.offset : segment.offset + 0x1000] = headers()
    (tmp_path / "a.dmp").write_bytes(data)
    info = dump_info(tmp_path / "a.dmp")
    assert {row.ip: row.place for row in info.threads} == places
    assert [(row.base, row.end) for row in info.modules] == [(0x40_0000, 0x40_2000)]
    assert "100  a.dll+0x1000\n   101  0x500000\n" in lines(info)


def test_the_page_of_createdump_names_it_and_the_exception(tmp_path: Path) -> None:
    info = dump_info(core(tmp_path / "a.dmp"))
    assert info.writer == "createdump"
    assert info.stopped_by == "exception 0xc0000005 (STATUS_ACCESS_VIOLATION) at 0x1234"


def test_a_signal_is_named_with_its_address(tmp_path: Path) -> None:
    info = dump_info(core(tmp_path / "a.dmp", signal=11))
    assert info.stopped_by == "SIGSEGV in thread 100, address 0xdead0"


def test_any_json_in_our_note_is_survived(tmp_path: Path) -> None:
    odd: dict[str, object] = {"mode": 5, "warnings": [1, {}], "clr": [], "time": None, "name": {}}
    info = dump_info(core(tmp_path / "a.dmp", own=odd))
    assert info.mode == ""
    assert info.name == "dotnet"
    assert json.loads(json.dumps(info.as_dict()))["writer"] == "minidumper"


def test_json_has_every_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = core(tmp_path / "a.dmp", own=OWN)
    assert main.run(["info", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["threads"] == [{"tid": 100, "ip": 0, "sp": 0, "name": "", "place": ""}]
    assert told["modules"][0]["path"] == "/lib/a.so"
    assert told["runtime"] is None


def test_a_minidump_tells_its_streams_and_its_exception(tmp_path: Path) -> None:
    version = struct.pack("<13I", 0xFEEF04BD, 0x10000, 0xA0000, 0xE0029, *[0] * 9)
    streams = MinidumpStreams(
        system=SystemInfo(9),
        misc=MiscInfo(4711, build="20348.1", debugger_build="dbgcore 10"),
        modules=(Module(0x7FF6_0000_0000, 0x20000, "C:\\app\\app.exe", 1, 2, version),),
        threads=(Thread(100, bytes(1232), name="main"),),
        exception=ExceptionInfo(100, 0xE0434352, 0x1234),
    )
    plan = minidump_layout(streams, [(0x1_0000, 0x1_2000)], timestamp=1_700_000_000)
    path = tmp_path / "app.dmp"
    path.write_bytes(plan.header.ljust(plan.file_size, b"\0"))
    info = dump_info(path)
    assert (info.format, info.architecture, info.writer) == ("minidump", "x64", "dbgcore 10")
    assert (info.pid, info.name, info.time) == (4711, "app", "2023-11-14T22:13:20+00:00")
    assert info.stopped_by == "exception 0xe0434352 (a CLR exception) at 0x1234 in thread 100"
    assert [(row.tid, row.name) for row in info.threads] == [(100, "main")]
    assert [(row.path, row.version) for row in info.modules] == [
        ("C:\\app\\app.exe", "10.0.14.41"),
    ]
    assert "ExceptionStream" in [row.name for row in info.contents]
    assert (info.memory_blocks, info.memory_size) == (1, 0x2000)
    assert "app.exe" in lines(info)


def test_our_own_minidump_is_named_as_ours(tmp_path: Path) -> None:
    plan = minidump_layout(MinidumpStreams(own=OWN), [])
    path = tmp_path / "app.dmp"
    path.write_bytes(plan.header.ljust(plan.file_size, b"\0"))
    assert dump_info(path).writer == "minidumper 1.2"


def bad_files(folder: Path) -> dict[str, Path]:
    """Files that are no dump, each in its own way."""
    whole = core(folder / "whole").read_bytes()
    contents = {
        "empty": b"",
        "text": b"not a dump\n" * 10,
        "magic": b"\x7fELF",
        "minidump-magic": b"MDMP",
        "zstd": b"\x28\xb5\x2f\xfd" + bytes(range(256)),
        "gzip": b"\x1f\x8b\x08" + bytes(range(256)),
        "program": whole[:16] + b"\x03\0" + whole[18:],
        "32-bit": whole[:4] + b"\1" + whole[5:],
        "arm": whole[:18] + b"\xb7\0" + whole[20:],
        "cut-in-header": whole[:40],
        "cut-in-notes": whole[:400],
        "cut-in-memory": whole[:-1],
        "many-headers": whole[:56] + b"\xfe\xff" + whole[58:],
        "minidump-streams": struct.pack("<4sIIIIIQ", b"MDMP", 42899, 1 << 30, 32, 0, 0, 0),
        "wild-note": whole[:NOTES_AT]
        + NHDR.pack(1 << 31, 1 << 31, 1)
        + whole[NOTES_AT + NHDR.size :],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    if hasattr(os, "mkfifo"):  # which nobody ever writes into
        os.mkfifo(folder / "pipe")
    return {name: folder / name for name in (*contents, "folder", "missing", "pipe")}


@pytest.mark.parametrize("reader", ["info", "regions", "heapstat", "verify"])
def test_what_is_no_dump_gives_one_line(
    reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, path in bad_files(tmp_path).items():
        assert main.run([reader, str(path)]) == 1, name
        told = capsys.readouterr()
        assert not told.out, name
        assert told.err.startswith(f"minidumper: error: {path}: ") or (
            told.err.startswith("minidumper: error: cannot ") and str(path) in told.err
        ), (name, told.err)
        assert "internal error" not in told.err
        assert told.err.count("\n") <= 2, told.err


def test_a_file_that_cannot_be_opened_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.symlink_to(path)
    with pytest.raises(DumpFormatError, match="Too many levels of symbolic links"):
        dump_info(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0xFFF), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_header_never_surprises(tmp_path: Path, damage: list[tuple[int, int]]) -> None:
    data = bytearray(core(tmp_path / "whole", own=OWN).read_bytes())
    for offset, value in damage:
        data[offset] = value
    (tmp_path / "damaged").write_bytes(data)
    try:
        info = dump_info(tmp_path / "damaged")
    except DumpFormatError:
        return
    assert lines(info)
    assert json.dumps(info.as_dict())


def test_notes_of_unknown_kinds_are_counted(tmp_path: Path) -> None:
    data = core(tmp_path / "a").read_bytes()
    strange = pack_note(b"STRANGE", 77, b"x" * 8)
    # The spare bytes behind the notes take one more; the note segment grows to cover it.
    offset, size = struct.unpack_from("<Q", data, 64 + 8)[0], struct.unpack_from("<Q", data, 96)[0]
    assert offset == NOTES_AT
    grown = bytearray(data)
    grown[offset + size : offset + size + len(strange)] = strange
    struct.pack_into("<Q", grown, 96, size + len(strange))
    (tmp_path / "b").write_bytes(grown)
    assert any(row.name == "STRANGE 0x4d" for row in dump_info(tmp_path / "b").contents)


def test_many_notes_cost_no_memory(tmp_path: Path) -> None:
    """A megabyte of empty notes, each of another kind: they are counted, not kept."""
    whole = core(tmp_path / "a").read_bytes()
    count = (1 << 20) // NHDR.size
    path = tmp_path / "b"
    with open(path, "wb") as file:
        file.write(whole)
        file.seek(-(-len(whole) // 4096) * 4096)
        at = file.tell()
        for start in range(0, count, 1 << 16):
            rows = range(start, min(count, start + (1 << 16)))
            file.write(b"".join(NHDR.pack(0, 0, 0x1000 + row) for row in rows))
        file.seek(64 + 8)
        file.write(struct.pack("<Q", at))
        file.seek(64 + 32)
        file.write(struct.pack("<Q", count * NHDR.size))
    tracemalloc.start()
    try:
        info = dump_info(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(row.number for row in info.contents) == count
    assert len(info.contents) == 1001
    assert peak < 4 << 20
