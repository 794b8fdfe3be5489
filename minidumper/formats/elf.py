"""ELF64 little endian, common to cores and images: headers and notes, bytes <-> values.

Sources: elf(5); System V gABI, chapters 4 and 5 (https://gabi.xinuos.com); elf.h of glibc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import DumpFormatError

ELF_MAGIC = b"\x7fELF"
ELFCLASS64 = 2
ELFDATA2LSB = 1
ELFOSABI_LINUX = 3
ET_CORE = 4
EM_X86_64 = 62

PT_LOAD = 1
PT_DYNAMIC = 2
PT_NOTE = 4
PT_GNU_EH_FRAME = 0x6474E550
PT_GNU_RELRO = 0x6474E552

PF_X = 1
PF_W = 2
PF_R = 4

PN_XNUM = 0xFFFF
"""e_phnum of a file with this many program headers or more; sh_info of section 0 has the number."""

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
NHDR = struct.Struct("<III")


class ElfHeader(NamedTuple):
    """Elf64_Ehdr without the identification bytes; the names are those of elf(5)."""

    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int

    def pack(self) -> bytes:
        """The 64 bytes of the header."""
        ident = ELF_MAGIC + bytes((ELFCLASS64, ELFDATA2LSB, 1, ELFOSABI_LINUX))
        return EHDR.pack(ident, *self)

    @classmethod
    def unpack(cls, data: bytes) -> ElfHeader:
        """The header at the start of `data`.

        Raises:
            DumpFormatError: no ELF header, or one of 32 bits or of big endian.
        """
        if len(data) < EHDR.size or data[:4] != ELF_MAGIC:
            raise DumpFormatError("not an ELF file: the header is missing")
        if data[4] != ELFCLASS64 or data[5] != ELFDATA2LSB:
            raise DumpFormatError("an ELF file of 32 bits or big endian is not supported", offset=4)
        header = cls(*EHDR.unpack_from(data)[1:])
        if header.phentsize != PHDR.size:
            raise DumpFormatError(
                f"damaged ELF header: program headers of {header.phentsize} bytes", offset=54
            )
        return header


class ProgramHeader(NamedTuple):
    """Elf64_Phdr; the names are those of elf(5)."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class Note(NamedTuple):
    """A note; `offset` is where its content starts in the file or data it came from (bytes)."""

    name: bytes
    type: int
    content: bytes
    offset: int


def pack_note(name: bytes, type: int, content: bytes) -> bytes:
    """A note with name and content padded to 4 bytes, as in every Linux core."""
    terminated = name + b"\0"
    header = NHDR.pack(len(terminated), len(content), type)
    return b"".join((header, _padded(terminated), _padded(content)))


def iter_notes(data: bytes, *, align: int = 4, offset: int = 0) -> Iterator[Note]:
    """The notes in `data`, a PT_NOTE segment aligned to `align` that starts at `offset`.

    Raises:
        DumpFormatError: a note reaches beyond the end.
    """
    at = 0
    while at + NHDR.size <= len(data):
        name_size, content_size, type = NHDR.unpack_from(data, at)
        start = _aligned(at + NHDR.size + name_size, align)
        end = start + content_size
        if end > len(data):
            raise DumpFormatError("damaged notes: one reaches beyond their end", offset=offset + at)
        name = data[at + NHDR.size : at + NHDR.size + name_size].rstrip(b"\0")
        yield Note(name, type, data[start:end], offset + start)
        at = _aligned(end, align)


def _aligned(size: int, align: int) -> int:
    return (size + align - 1) & -align


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
