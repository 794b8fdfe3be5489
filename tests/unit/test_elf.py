"""Cores: what is written is read again, and damaged files end in one clear error."""

from __future__ import annotations

import json
import struct
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidumper.errors import CaptureError, DumpFormatError
from minidumper.formats.elf import EHDR, PHDR, PN_XNUM, Note, iter_notes, pack_note
from minidumper.formats.elfcore import (
    CoreLayout,
    flags_of,
    layout,
    protection_of,
    read_core,
    special_diag_info,
)
from minidumper.formats.elfnotes import (
    NT_FILE,
    NT_FPREGSET,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    NT_X86_XSTATE,
    OWN_NOTE_NAME,
    OWN_NOTE_TYPE,
    CoreNotes,
    CoreThread,
    MappedFile,
    ProcessInfo,
    pack_notes,
    parse_notes,
)

u64 = st.integers(0, 2**64 - 1)
pids = st.integers(1, 2**22)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
paths = names.map(lambda name: f"/usr/lib/{name}.dll")
threads = st.builds(
    CoreThread,
    tid=pids,
    regsets=st.fixed_dictionaries(
        {NT_PRSTATUS: st.binary(min_size=216, max_size=216)},
        optional={
            NT_FPREGSET: st.binary(min_size=512, max_size=512),
            NT_X86_XSTATE: st.binary(min_size=576, max_size=2700),
        },
    ),
    siginfo=st.just(b"") | st.binary(min_size=128, max_size=128),
    signal=st.integers(0, 64),
)
notes = st.builds(
    CoreNotes,
    process=st.builds(
        ProcessInfo,
        pid=pids,
        ppid=pids,
        uid=st.integers(0, 2**32 - 1),
        gid=st.integers(0, 2**32 - 1),
        name=names.filter(lambda name: len(name.encode()) <= 15),
        args=names,
    ),
    auxv=st.dictionaries(st.integers(1, 60), u64, max_size=20),
    files=st.lists(
        st.builds(
            MappedFile,
            start=u64,
            end=u64,
            offset=st.integers(0, 2**40).map(lambda page: page * 4096),
            path=paths,
        ),
        max_size=8,
    ).map(tuple),
    threads=st.lists(threads, max_size=6, unique_by=lambda t: t.tid).map(tuple),
    own=st.none() | st.dictionaries(names, names | st.integers() | st.none(), max_size=5),
)


def placed(steps: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Segments one after the other from (gap in pages, size in pages, flags)."""
    out = []
    at = 0x7000_0000_0000
    for gap, pages, flags in steps:
        start = at + gap * 4096
        at = start + pages * 4096
        out.append((start, at, flags))
    return out


segments = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(1, 5), st.integers(0, 7)), max_size=30
).map(placed)


def core_bytes(plan: CoreLayout) -> bytes:
    return plan.header.ljust(plan.file_size, b"\0")


def sample_notes(count: int = 3) -> CoreNotes:
    return CoreNotes(
        process=ProcessInfo(100, 1, 1000, 1000, "dotnet", "dotnet app.dll"),
        auxv={3: 0x40, 9: 0x1000},
        files=(MappedFile(0x1000, 0x2000, 0, "/lib/a.so"), MappedFile(0x2000, 0x3000, 4096, "/b")),
        threads=tuple(
            CoreThread(
                100 + i,
                {NT_PRSTATUS: bytes([i]) * 216, NT_FPREGSET: bytes(512), NT_X86_XSTATE: b"x" * 832},
                siginfo=bytes(128),
                signal=6,
            )
            for i in range(count)
        ),
        own={"mode": "heap"},
    )


SAMPLE = layout(sample_notes(), [(0x1000, 0x3000, 5), (0x8000, 0x9000, 6)])
CORE = core_bytes(SAMPLE)


@given(notes, segments)
def test_round_trip(notes: CoreNotes, segments: list[tuple[int, int, int]]) -> None:
    plan = layout(notes, segments)
    assert [(s.start, s.end, s.flags) for s in plan.segments] == segments
    offset = len(plan.header)
    for segment in plan.segments:
        assert segment.offset == offset
        assert offset % 4096 == 0
        offset += segment.end - segment.start
    assert plan.file_size == offset
    core = read_core(BytesIO(core_bytes(plan)))
    assert core.segments == plan.segments
    assert core.notes == notes


def test_notes_are_in_the_order_of_createdump() -> None:
    found = list(iter_notes(pack_notes(sample_notes(2))))
    of_thread = [NT_PRSTATUS, NT_FPREGSET, NT_X86_XSTATE, NT_SIGINFO]
    assert [n.type for n in found] == [NT_PRPSINFO, 6, NT_FILE, *of_thread * 2, OWN_NOTE_TYPE]
    assert {n.name for n in found if n.type != NT_X86_XSTATE} == {b"CORE", OWN_NOTE_NAME}
    assert {n.name for n in found if n.type == NT_X86_XSTATE} == {b"LINUX"}
    assert json.loads(found[-1].content) == {"mode": "heap"}


def test_offsets_in_prstatus_and_prpsinfo() -> None:
    """The offsets are those of offsetof() on the C structures of sys/procfs.h."""
    found = list(iter_notes(pack_notes(sample_notes(2))))
    second = [n.content for n in found if n.type == NT_PRSTATUS][1]
    assert len(second) == 336
    assert struct.unpack_from("<h", second, 12) == (6,)  # pr_cursig
    assert struct.unpack_from("<3i", second, 32) == (101, 1, 100)  # pr_pid, pr_ppid, pr_pgrp
    assert second[112:328] == b"\1" * 216  # pr_reg
    assert struct.unpack_from("<i", second, 328) == (1,)  # pr_fpvalid
    info = found[0].content
    assert len(info) == 136
    assert info[1:2] == b"R"  # pr_sname
    assert struct.unpack_from("<2I4i", info, 16) == (1000, 1000, 100, 1, 100, 0)
    assert info[40:56].rstrip(b"\0") == b"dotnet"
    assert info[56:].rstrip(b"\0") == b"dotnet app.dll"


def test_threads_keep_their_order() -> None:
    regsets = {NT_PRSTATUS: bytes(216)}
    some = [CoreThread(tid, regsets) for tid in (90, 200, 100, 95)]
    packed = pack_notes(CoreNotes(process=ProcessInfo(100), threads=some))
    assert [t.tid for t in parse_notes(iter_notes(packed)).threads] == [90, 200, 100, 95]


def test_long_names_are_cut_with_their_terminator() -> None:
    packed = pack_notes(CoreNotes(process=ProcessInfo(1, name="n" * 40, args="a" * 200)))
    info = next(iter_notes(packed)).content
    assert info[40:56] == b"n" * 15 + b"\0"
    assert info[56:] == b"a" * 79 + b"\0"


@pytest.mark.parametrize(
    "path",
    ["/app/old.dll (deleted)", "/memfd:doublemapper (deleted)", "/memfd:x", "[heap]", ""],
)
def test_mappings_without_a_file_are_left_out(path: str) -> None:
    kept = MappedFile(0x1000, 0x2000, 0, "/app/new.dll")
    packed = pack_notes(CoreNotes(files=(MappedFile(0, 0x1000, 0, path), kept)))
    assert parse_notes(iter_notes(packed)).files == (kept,)


def test_names_that_are_no_utf8_survive() -> None:
    path = b"/app/\xff\xfe.dll".decode("utf-8", "surrogateescape")
    some = CoreNotes(files=(MappedFile(0, 4096, 0, path),), own={"path": path})
    back = parse_notes(iter_notes(pack_notes(some)))
    assert (back.files, back.own) == (some.files, some.own)


@pytest.mark.parametrize(("count", "extended"), [(PN_XNUM - 2, False), (PN_XNUM - 1, True)])
def test_extended_numbering_begins_where_the_standard_says(
    tmp_path: Path, count: int, extended: bool
) -> None:
    plan = layout(CoreNotes(), [(i * 0x2000, i * 0x2000 + 0x1000, 4) for i in range(count)])
    fields = EHDR.unpack_from(plan.header)
    assert fields[10] == (PN_XNUM if extended else count + 1)  # e_phnum
    assert fields[12] == int(extended)  # e_shnum
    with open(tmp_path / "core", "w+b") as file:
        file.write(plan.header)
        file.truncate(plan.file_size)
        assert read_core(file).segments == plan.segments


def test_the_own_note_comes_last_and_has_room() -> None:
    segments = [(0x1000, 0x2000, 6)]
    plan = layout(CoreNotes(process=ProcessInfo(100)), segments, own_size=4096)
    assert plan.file_size == plan.own_offset + 4096 == plan.segments[-1].offset + 0x2000
    own = {"warnings": ["w" * 1000]}
    file = BytesIO(core_bytes(plan))
    file.seek(plan.own_offset)
    file.write(plan.own_note(own))
    assert file.tell() == plan.file_size
    back = read_core(file)
    assert (back.notes.own, back.notes.process, back.segments) == (
        own,
        ProcessInfo(100),
        plan.segments,
    )
    with pytest.raises(CaptureError, match="own note needs"):
        plan.own_note({"warnings": ["w" * 100_000]})


@pytest.mark.parametrize(
    "segments",
    [[(0x1000, 0x3000, 6), (0x2000, 0x4000, 6)], [(0x1001, 0x2000, 6)], [(0x2000, 0x1000, 6)]],
)
def test_wrong_plans_are_refused(segments: list[tuple[int, int, int]]) -> None:
    with pytest.raises(CaptureError):
        layout(CoreNotes(), segments)


def test_special_diag_info_page() -> None:
    """Offsets: struct SpecialDiagInfoHeader, src/coreclr/debug/inc/specialdiaginfo.h."""
    page = special_diag_info(runtime_base=0x7F00_1234_5000, exception_record=0x1234)
    assert len(page) == 4096
    assert page[:16] == b"DIAGINFOHEADER\0\0"
    assert struct.unpack_from("<i4xQQ", page, 16) == (2, 0x1234, 0x7F00_1234_5000)
    assert not any(page[40:])


@pytest.mark.parametrize(("protection", "flags"), [("rw-p", 6), ("r-xp", 5), ("---p", 0)])
def test_protections(protection: str, flags: int) -> None:
    assert flags_of(protection) == flags
    assert protection_of(flags) == protection
    assert flags_of(protection[:3] + "s") == flags


@given(st.integers(0, len(CORE) - 1))
def test_a_cut_core_is_always_refused(size: int) -> None:
    with pytest.raises(DumpFormatError):
        read_core(BytesIO(CORE[:size]))


@given(
    st.lists(
        st.tuples(st.integers(0, len(SAMPLE.header) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
def test_flipped_bytes_raise_only_format_errors(flips: list[tuple[int, int]]) -> None:
    data = bytearray(CORE)
    for at, value in flips:
        data[at] = value
    try:
        core = read_core(BytesIO(bytes(data)))
    except DumpFormatError:
        return
    assert all(s.offset + s.end - s.start <= len(data) for s in core.segments)


@given(st.binary(max_size=300))
def test_any_notes_raise_only_format_errors(data: bytes) -> None:
    try:
        parse_notes(iter_notes(data))
    except DumpFormatError:
        return


def test_a_tail_that_the_kernel_left_out_is_absent() -> None:
    data = bytearray(CORE)
    at = EHDR.size + PHDR.size  # the first load segment: 0x1000-0x3000
    fields = list(PHDR.unpack_from(data, at))
    fields[5] = 0x1000  # p_filesz
    data[at : at + PHDR.size] = PHDR.pack(*fields)
    first = read_core(BytesIO(bytes(data))).segments[0]
    assert (first.start, first.end) == (0x1000, 0x2000)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (3, 0x7FFF, "overlaps"),  # p_vaddr: into the second segment
        (3, 2**64 - 1, "overflows"),
        (6, 0x800, "overlaps"),  # p_memsz below p_filesz
        (2, 2**63, "cut"),  # p_offset
    ],
)
def test_load_segments_that_cannot_be(index: int, value: int, message: str) -> None:
    data = bytearray(CORE)
    at = EHDR.size + PHDR.size
    fields = list(PHDR.unpack_from(data, at))
    fields[index] = value
    data[at : at + PHDR.size] = PHDR.pack(*fields)
    with pytest.raises(DumpFormatError, match=message):
        read_core(BytesIO(bytes(data)))


def test_a_claim_of_four_billion_segments_costs_nothing() -> None:
    plan = layout(CoreNotes(), [(i * 0x2000, i * 0x2000 + 0x1000, 4) for i in range(PN_XNUM)])
    data = bytearray(plan.header)
    struct.pack_into("<I", data, EHDR.size + 44, 2**32 - 1)  # sh_info of section 0
    tracemalloc.start()
    try:
        with pytest.raises(DumpFormatError, match="4294967295 program headers"):
            read_core(BytesIO(bytes(data)))
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


def own_note(content: bytes) -> bytes:
    return pack_note(OWN_NOTE_NAME, OWN_NOTE_TYPE, content)


@pytest.mark.parametrize(
    "data",
    [
        own_note(b"\xff"),
        own_note(b"[" * 100_000),
        own_note(b"[1]"),
        own_note(b'"' + b"x" * (1 << 22) + b'"'),
        pack_note(b"CORE", NT_FILE, struct.pack("<QQ", 2**60, 4096)),
        pack_note(b"CORE", NT_FILE, struct.pack("<5Q", 1, 4096, 0, 1, 0) + b"/no/end"),
        pack_note(b"CORE", NT_PRSTATUS, bytes(100)),
        pack_note(b"CORE", NT_FPREGSET, bytes(512)),
        pack_note(b"CORE", NT_PRPSINFO, b""),
        pack_note(b"CORE", NT_PRPSINFO, bytes(136))[:-8],
    ],
)
def test_damaged_notes(data: bytes) -> None:
    with pytest.raises(DumpFormatError):
        parse_notes(iter_notes(data))


def test_foreign_notes_do_not_matter() -> None:
    some = [Note(b"VENDOR", NT_PRSTATUS, b"", 0), Note(b"CORE", 0x777, b"", 0)]
    assert parse_notes(some) == CoreNotes(files=(), threads=())
