"""Images: against pyelftools on files, and against the dynamic linker on our own memory."""

from __future__ import annotations

import ctypes
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from minidumper.errors import MemoryFaultError
from minidumper.formats.elf import (
    EM_X86_64,
    PHDR,
    PT_DYNAMIC,
    PT_GNU_EH_FRAME,
    PT_GNU_RELRO,
    PT_LOAD,
    PT_NOTE,
    ElfHeader,
    ProgramHeader,
    pack_note,
)
from minidumper.formats.elfimage import (
    ElfImage,
    build_id,
    dynamic_section,
    file_image,
    function_starts,
    lookup_symbol,
    read_image,
    symbol_ranges,
)

BASE = 0x7F00_0000_0000
BUILD_ID = bytes(range(20))


def gnu_hash(name: str) -> int:
    value = 5381
    for byte in name.encode():
        value = value * 33 + byte
    return value & 0xFFFFFFFF


def synthetic_image(names: list[str], *, relocated: bool = True) -> bytes:
    """An image of 0x4000 bytes, linked at 0, that exports `names`: the n-th at 0x3000 + 16 n."""
    buckets = max(1, len(names) // 2)
    names = sorted(names, key=lambda name: gnu_hash(name) % buckets)
    strings, symbols, chain = b"\0", bytes(24), b""
    firsts = [0] * buckets
    for index, name in enumerate(names, 1):
        bucket = gnu_hash(name) % buckets
        firsts[bucket] = firsts[bucket] or index
        last = index == len(names) or gnu_hash(names[index]) % buckets != bucket
        chain += struct.pack("<I", (gnu_hash(name) & ~1) | last)
        symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 1, 0x3000 + 16 * index, 8)
        strings += name.encode() + b"\0"
    gnu = struct.pack("<IIIIQ", buckets, 1, 1, 6, 2**64 - 1)
    gnu += struct.pack(f"<{buckets}I", *firsts) + chain
    image = bytearray(0x4000)
    at = {"gnu": 0x400, "sym": 0x800, "str": 0x1800}
    bias = BASE if relocated else 0
    tags = [(6, at["sym"] + bias), (5, at["str"] + bias), (10, len(strings))]
    tags += [(0x6FFFFEF5, at["gnu"] + bias), (21, 0x1234), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    note = pack_note(b"GNU", 3, BUILD_ID)
    headers = [
        ProgramHeader(PT_LOAD, 5, 0, 0, 0, 0x3000, 0x3000, 0x1000),
        ProgramHeader(PT_LOAD, 6, 0x3000, 0x3000, 0, 0x1000, 0x2000, 0x1000),
        ProgramHeader(PT_DYNAMIC, 6, 0x300, 0x300, 0, len(dynamic), len(dynamic), 8),
        ProgramHeader(PT_NOTE, 4, 0x200, 0x200, 0, len(note), len(note), 4),
        ProgramHeader(PT_GNU_RELRO, 4, 0x3000, 0x3000, 0, 0x800, 0x800, 1),
    ]
    header = ElfHeader(3, EM_X86_64, 1, 0, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    parts = {0: header.pack(), 64: b"".join(PHDR.pack(*h) for h in headers)}
    parts |= {0x200: note, 0x300: dynamic, at["gnu"]: gnu, at["sym"]: symbols, at["str"]: strings}
    for start, data in parts.items():
        image[start : start + len(data)] = data
    return bytes(image)


class Memory:
    """One block of bytes at BASE that notes what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: list[tuple[int, int]] = []

    def read(self, address: int, size: int) -> bytes:
        start = address - BASE
        if not 0 <= start <= start + size <= len(self.data):
            raise MemoryFaultError("outside", address=address, size=size)
        self.seen.append((address, address + size))
        return self.data[start : start + size]


def loaded(data: bytes) -> ElfImage:
    image = read_image(Memory(data).read, BASE)
    assert image is not None
    return image


@pytest.mark.parametrize("relocated", [True, False])
def test_image_in_memory(relocated: bool) -> None:
    names = [f"symbol_{i}" for i in range(20)]
    image = loaded(synthetic_image(names, relocated=relocated))
    assert (image.bias, image.machine) == (BASE, EM_X86_64)
    assert image.span == (BASE, BASE + 0x5000)
    assert image.ranges(PT_GNU_RELRO) == [(BASE + 0x3000, BASE + 0x3800)]
    assert build_id(image) == BUILD_ID.hex()
    assert dynamic_section(image).debug == 0x1234
    addresses = {lookup_symbol(image, name) for name in names}
    assert addresses == {BASE + 0x3000 + 16 * i for i in range(1, 21)}
    assert lookup_symbol(image, "absent") is None


def test_symbol_ranges_hold_all_that_a_lookup_reads() -> None:
    names = [f"symbol_{i}" for i in range(20)]
    memory = Memory(synthetic_image(names))
    image = read_image(memory.read, BASE)
    assert image is not None
    ranges = symbol_ranges(image)
    memory.seen.clear()
    for name in [*names, "absent"]:
        lookup_symbol(image, name)
    outside = [
        (start, end)
        for start, end in memory.seen
        if not any(r.start <= start and end <= r.end for r in ranges)
    ]
    assert outside == []


def test_no_image() -> None:
    assert read_image(Memory(b"MZ" + bytes(4096)).read, BASE) is None
    assert file_image(b"\x7fELF") is None
    with pytest.raises(MemoryFaultError):
        read_image(Memory(b"").read, BASE)


@given(st.lists(st.tuples(st.integers(0, 0x1900), st.integers(0, 255)), max_size=8))
def test_damaged_images_never_do_worse_than_a_fault(flips: list[tuple[int, int]]) -> None:
    data = bytearray(synthetic_image(["one", "two", "three"]))
    for at, value in flips:
        data[at] = value
    try:
        image = read_image(Memory(bytes(data)).read, BASE)
    except MemoryFaultError:
        return
    if image is None:
        return
    for read in (
        build_id,
        dynamic_section,
        symbol_ranges,
        function_starts,
        lambda i: lookup_symbol(i, "two"),
    ):
        try:
            read(image)
        except MemoryFaultError:
            continue


def own_libc() -> tuple[int, Path]:
    """Where our own C library is mapped, and its file."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split()
            if fields[2] == "00000000" and "/libc.so.6" in fields[-1]:
                return int(fields[0].split("-")[0], 16), Path(fields[-1])
    raise AssertionError("no C library in /proc/self/maps")


@pytest.mark.gate("linux")
def test_functions_begin_where_pyelftools_says() -> None:
    _, path = own_libc()
    image = file_image(path.read_bytes())
    assert image is not None
    with path.open("rb") as file:
        entries = ELFFile(file).get_dwarf_info().EH_CFI_entries()
    begins = {entry["initial_location"] for entry in entries if isinstance(entry, FDE)}
    assert function_starts(image) == sorted(begins)
    assert len(begins) > 1000


@pytest.mark.gate("linux")
def test_file_agrees_with_pyelftools() -> None:
    data = own_libc()[1].read_bytes()
    image = file_image(data)
    assert image is not None
    elf = ELFFile(BytesIO(data))
    names = {
        PT_LOAD: "PT_LOAD",
        PT_DYNAMIC: "PT_DYNAMIC",
        PT_GNU_EH_FRAME: "PT_GNU_EH_FRAME",
        PT_GNU_RELRO: "PT_GNU_RELRO",
    }
    for type, name in names.items():
        assert image.ranges(type) == [
            (s["p_vaddr"], s["p_vaddr"] + s["p_memsz"])
            for s in elf.iter_segments()
            if s["p_type"] == name
        ]
    notes: Any = elf.get_section_by_name(".note.gnu.build-id")
    assert build_id(image) == next(iter(notes.iter_notes()))["n_desc"]
    symbols: Any = elf.get_section_by_name(".dynsym")
    exported = [s for s in symbols.iter_symbols() if s["st_shndx"] != "SHN_UNDEF"]
    assert len(exported) > 100
    for symbol in exported[::50]:
        same_name = {s["st_value"] for s in symbols.get_symbol_by_name(symbol.name)}
        assert lookup_symbol(image, symbol.name) in same_name
    assert symbol_ranges(image)[2].size == 24 * symbols.num_symbols()


@pytest.mark.gate("linux")
def test_own_libc_agrees_with_the_dynamic_linker() -> None:
    base, path = own_libc()
    libc = ctypes.CDLL("libc.so.6")
    with open("/proc/self/mem", "rb", buffering=0) as memory:

        def read(address: int, size: int) -> bytes:
            memory.seek(address)
            return memory.read(size)

        image = read_image(read, base)
        assert image is not None
        for name in ("getpid", "fopen", "environ"):
            expected = ctypes.addressof(ctypes.c_char.in_dll(libc, name))
            assert lookup_symbol(image, name) == expected
        on_disk = file_image(path.read_bytes())
        assert on_disk is not None
        assert build_id(image) == build_id(on_disk) != ""
