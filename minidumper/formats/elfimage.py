"""ELF images as they lie in memory: segments, build id, dynamic symbols.

All functions read through a plain function, so a process, a dump and a file serve alike. What is
damaged counts as absent; memory that cannot be read is the reader's MemoryFaultError.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import DumpFormatError, MemoryFaultError
from ..ranges import MemoryRange, page_ceil, page_floor
from .elf import (
    EHDR,
    PHDR,
    PT_DYNAMIC,
    PT_GNU_EH_FRAME,
    PT_LOAD,
    PT_NOTE,
    ElfHeader,
    ProgramHeader,
    iter_notes,
)

ReadMemory = Callable[[int, int], bytes]
"""Exactly so many bytes (second) from an address (first); raises MemoryFaultError."""

NT_GNU_BUILD_ID = 3

# Tags of the dynamic section, elf.h.
DT_NULL = 0
DT_STRTAB = 5
DT_SYMTAB = 6
DT_STRSZ = 10
DT_DEBUG = 21
DT_GNU_HASH = 0x6FFFFEF5

# Against damaged headers: far above what real images have.
_MAX_HEADERS = 1024
_MAX_TABLE_SIZE = 1 << 22
_MAX_CHAIN = 1 << 16
_ADDRESS_LIMIT = 1 << 47
"""End of user space on x86-64 with four page levels: Documentation/arch/x86/x86_64/mm.rst."""

_EH_FRAME_HDR = struct.Struct("<4siI")
_EH_FRAME_ENTRY = struct.Struct("<ii")
_SEARCH_TABLE = bytes((1, 0x1B, 0x03, 0x3B))
"""Version 1; a pointer, a count, and pairs of offsets from the table: as all linkers write it."""

_DYN = struct.Struct("<QQ")
_SYM = struct.Struct("<IBBHQQ")
_GNU_HASH = struct.Struct("<IIII")


class DynamicSection(NamedTuple):
    """Addresses from the dynamic section, relocated; 0 where an entry is missing.

    `strsz` is the size of the string table (bytes); `debug` is the address of the dynamic
    linker's `struct r_debug` (link.h), which only the main program has.
    """

    symtab: int = 0
    strtab: int = 0
    strsz: int = 0
    gnu_hash: int = 0
    debug: int = 0


@dataclass(frozen=True, slots=True)
class ElfImage:
    """An image in memory: `base` is where its file's first byte lies, `bias` its relocation."""

    read: ReadMemory
    base: int
    bias: int
    machine: int
    headers: tuple[ProgramHeader, ...]

    def ranges(self, type: int) -> list[MemoryRange]:
        """Where the segments of a type (PT_LOAD, PT_DYNAMIC, …) lie; not page aligned."""
        return [
            MemoryRange(self.bias + h.vaddr, self.bias + h.vaddr + h.memsz)
            for h in self.headers
            if h.type == type
        ]

    @property
    def span(self) -> MemoryRange:
        """The whole pages from the first to the last load segment."""
        loads = self.ranges(PT_LOAD)
        return MemoryRange(
            page_floor(min(r.start for r in loads)), page_ceil(max(r.end for r in loads))
        )


def read_image(read: ReadMemory, base: int) -> ElfImage | None:
    """The image whose ELF header is at `base`; None where there is no sound one.

    Raises:
        MemoryFaultError: the headers cannot be read.
    """
    try:
        header = ElfHeader.unpack(read(base, EHDR.size))
    except DumpFormatError:
        return None
    if header.phnum > _MAX_HEADERS or header.phoff > _MAX_TABLE_SIZE:
        return None
    table = read(base + header.phoff, header.phnum * PHDR.size)
    headers = [ProgramHeader(*fields) for fields in PHDR.iter_unpack(table)]
    loads = [h for h in headers if h.type == PT_LOAD]
    if not loads:
        return None
    first = min(loads, key=lambda h: h.offset)
    bias = base - (first.vaddr - first.offset)
    sound = tuple(
        h for h in headers if 0 <= bias + h.vaddr <= bias + h.vaddr + h.memsz <= _ADDRESS_LIMIT
    )
    if not any(h.type == PT_LOAD for h in sound):
        return None
    return ElfImage(read, base, bias, header.machine, sound)


def file_image(data: bytes | mmap.mmap) -> ElfImage | None:
    """The image in a file's bytes, as if loaded at the addresses it was linked for."""

    def read_file(offset: int, size: int) -> bytes:
        if not 0 <= offset <= offset + size <= len(data):
            raise MemoryFaultError("beyond the end of the file", address=offset, size=size)
        return data[offset : offset + size]

    def read(address: int, size: int) -> bytes:
        for h in loads:
            if h.vaddr <= address and address + size <= h.vaddr + h.filesz:
                return read_file(address - h.vaddr + h.offset, size)
        raise MemoryFaultError("outside the file's load segments", address=address, size=size)

    try:
        flat = read_image(read_file, 0)
    except MemoryFaultError:
        return None
    if flat is None:
        return None
    loads = [h for h in flat.headers if h.type == PT_LOAD]
    return ElfImage(read, -flat.bias, 0, flat.machine, flat.headers)


def build_id(image: ElfImage) -> str:
    """The GNU build id in hexadecimal, "" where there is none (ld(1), --build-id).

    Raises:
        MemoryFaultError: the notes cannot be read.
    """
    for h in image.headers:
        if h.type != PT_NOTE or h.memsz > _MAX_TABLE_SIZE:
            continue
        data = image.read(image.bias + h.vaddr, h.memsz)
        try:
            # .note.gnu.property is aligned to 8 and says so (x86-64 psABI, 5.1).
            for note in iter_notes(data, align=8 if h.align == 8 else 4):
                if note.name == b"GNU" and note.type == NT_GNU_BUILD_ID:
                    return note.content.hex()
        except DumpFormatError:
            continue
    return ""


def dynamic_section(image: ElfImage) -> DynamicSection:
    """What the dynamic section says; all 0 where there is none.

    Raises:
        MemoryFaultError: it cannot be read.
    """
    tags: dict[int, int] = {}
    for start, end in image.ranges(PT_DYNAMIC):
        data = image.read(start, min(end - start, _MAX_TABLE_SIZE) // _DYN.size * _DYN.size)
        for tag, value in _DYN.iter_unpack(data):
            if tag == DT_NULL:
                break
            tags.setdefault(tag, value)
    return DynamicSection(
        symtab=_table_address(image, tags.get(DT_SYMTAB, 0)),
        strtab=_table_address(image, tags.get(DT_STRTAB, 0)),
        strsz=min(tags.get(DT_STRSZ, 0), _MAX_TABLE_SIZE),
        gnu_hash=_table_address(image, tags.get(DT_GNU_HASH, 0)),
        debug=tags.get(DT_DEBUG, 0),
    )


def _table_address(image: ElfImage, value: int) -> int:
    """A pointer of the dynamic section as an address inside the image, else 0.

    glibc relocates these entries in memory, musl and the vDSO do not.
    """
    span = image.span
    for address in (value, image.bias + value):
        if value and span.start <= address < span.end:
            return address
    return 0


def lookup_symbol(image: ElfImage, name: str) -> int | None:
    """The address of a dynamic symbol that the image exports, through its GNU hash table.

    The table's form: https://flapenguin.me/elf-dt-gnu-hash; bfd/elflink.c of binutils.

    Raises:
        MemoryFaultError: the dynamic section or the tables cannot be read.
    """
    dynamic = dynamic_section(image)
    if not (dynamic.gnu_hash and dynamic.symtab and dynamic.strtab):
        return None
    buckets, first, bloom_size, _ = _GNU_HASH.unpack(image.read(dynamic.gnu_hash, _GNU_HASH.size))
    if not buckets:
        return None
    wanted = name.encode() + b"\0"
    hashed = _gnu_hash(name)
    table = dynamic.gnu_hash + _GNU_HASH.size + 8 * bloom_size
    start = _u32(image, table + 4 * (hashed % buckets))
    if start < first:
        return None
    for index in range(start, start + _MAX_CHAIN):
        found = _u32(image, table + 4 * (buckets + index - first))
        if found | 1 == hashed | 1:
            symbol = _SYM.unpack(image.read(dynamic.symtab + index * _SYM.size, _SYM.size))
            at, section, value = symbol[0], symbol[3], symbol[4]
            if (
                section
                and at + len(wanted) <= dynamic.strsz
                and image.read(dynamic.strtab + at, len(wanted)) == wanted
            ):
                return image.bias + int(value)
        if found & 1:
            break
    return None


def function_starts(image: ElfImage) -> list[int]:
    """Where the functions begin that can be unwound, sorted; none where no table tells it.

    The table's form: https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/ehframehdr.html

    Raises:
        MemoryFaultError: the table cannot be read.
    """
    for start, end in image.ranges(PT_GNU_EH_FRAME):
        head, _, count = _EH_FRAME_HDR.unpack(image.read(start, _EH_FRAME_HDR.size))
        size = count * _EH_FRAME_ENTRY.size
        if head == _SEARCH_TABLE and size <= min(end - start, _MAX_TABLE_SIZE):
            table = image.read(start + _EH_FRAME_HDR.size, size)
            return sorted(start + at for at, _ in _EH_FRAME_ENTRY.iter_unpack(table))
    return []


def symbol_ranges(image: ElfImage) -> list[MemoryRange]:
    """The dynamic section, GNU hash, symbol and string tables: all that `lookup_symbol` reads.

    Raises:
        MemoryFaultError: the dynamic section or the hash table cannot be read.
    """
    ranges = [r for r in image.ranges(PT_DYNAMIC) if r.size <= _MAX_TABLE_SIZE]
    dynamic = dynamic_section(image)
    if not (dynamic.gnu_hash and dynamic.symtab and dynamic.strtab):
        return ranges
    buckets, first, bloom_size, _ = _GNU_HASH.unpack(image.read(dynamic.gnu_hash, _GNU_HASH.size))
    table = dynamic.gnu_hash + _GNU_HASH.size + 8 * bloom_size
    if not 0 < buckets <= _MAX_TABLE_SIZE // 4 or table >= image.span.end:
        return ranges
    count = first
    last = max(struct.unpack(f"<{buckets}I", image.read(table, 4 * buckets)))
    if last >= first:
        for count in range(last + 1, last + _MAX_CHAIN):
            if _u32(image, table + 4 * (buckets + count - 1 - first)) & 1:
                break
    ranges += [
        MemoryRange(dynamic.gnu_hash, table + 4 * (buckets + max(0, count - first))),
        MemoryRange(dynamic.symtab, dynamic.symtab + count * _SYM.size),
        MemoryRange(dynamic.strtab, dynamic.strtab + dynamic.strsz),
    ]
    return [r for r in ranges if r.end <= image.span.end]


def _gnu_hash(name: str) -> int:
    """Bernstein's hash with 32 bits, as DT_GNU_HASH has it."""
    value = 5381
    for byte in name.encode():
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def _u32(image: ElfImage, address: int) -> int:
    return int.from_bytes(image.read(address, 4), "little")
