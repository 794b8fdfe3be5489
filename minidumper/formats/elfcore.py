"""ELF cores of Linux x86-64: layout of a new one, reader of any.

Written as createdump does (reference: src/coreclr/debug/createdump of dotnet/runtime): one
PT_NOTE, then the load segments by address, p_filesz equal to p_memsz, page aligned in the file.
Reads cores of the kernel, gdb's gcore, createdump and our own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from ..errors import CaptureError, DumpFormatError
from ..ranges import PAGE_SIZE, page_ceil
from .elf import (
    EHDR,
    EM_X86_64,
    ET_CORE,
    PF_R,
    PF_W,
    PF_X,
    PHDR,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    SHDR,
    ElfHeader,
    Note,
    ProgramHeader,
    iter_notes,
)
from .elfnotes import CoreNotes, pack_notes, pack_own, parse_notes

# Against damaged files. vm.max_map_count of today's distributions is 1,048,576 at most; the notes
# of 10,000 threads with AMX state (11 KB) are 120 MB.
_MAX_HEADERS = (1 << 20) + 16
_MAX_NOTES_SIZE = 1 << 28
_ADDRESS_LIMIT = 1 << 64

SPECIAL_DIAG_INFO_ADDRESS = 0x00007FFFFFF10000
"""Where readers look for the page (dotnet/runtime, src/coreclr/debug/inc/specialdiaginfo.h)."""
_SPECIAL_DIAG_INFO = struct.Struct("<16si4xQQ")
_SPECIAL_DIAG_INFO_VERSION = 2


class LoadSegment(NamedTuple):
    """Memory that is in the file: [start, end) lies at `offset` (bytes); flags are PF_*."""

    start: int
    end: int
    flags: int
    offset: int


@dataclass(frozen=True, slots=True)
class CoreLayout:
    """A core to be written: `header` goes to offset 0, each segment's bytes to its offset.

    The own note has `own_size` bytes at `own_offset`, behind all else: it is written last.
    """

    header: bytes
    segments: tuple[LoadSegment, ...]
    file_size: int
    own_offset: int
    own_size: int

    def own_note(self, own: Mapping[str, object]) -> bytes:
        """The bytes of the own note.

        Raises:
            CaptureError: it does not fit.
        """
        return pack_own(own, self.own_size)


@dataclass(frozen=True, slots=True)
class Core:
    """A core that was read: its notes, and the memory it holds sorted by address."""

    notes: CoreNotes
    segments: tuple[LoadSegment, ...]


def layout(
    notes: CoreNotes, segments: Sequence[tuple[int, int, int]], *, own_size: int = 0
) -> CoreLayout:
    """Where everything goes; `segments` are (start, end, flags), sorted, disjoint, page aligned.

    `own_size` bytes at the end of the file are kept for the own note, 0 for none.

    Raises:
        CaptureError: the segments are not as they must be.
    """
    unplaced = [LoadSegment(*segment, 0) for segment in segments]
    previous = 0
    for start, end, _, _ in unplaced:
        if not previous <= start < end or start % PAGE_SIZE or end % PAGE_SIZE:
            raise CaptureError(
                f"load segment 0x{start:x}-0x{end:x} overlaps or is not page aligned",
                stage="layout",
            )
        previous = end
    # Offsets have a fixed width, so the header of unplaced segments has the final size.
    offset = page_ceil(len(_header(notes, unplaced, 0, own_size)))
    placed = []
    for start, end, flags, _ in unplaced:
        placed.append(LoadSegment(start, end, flags, offset))
        offset += end - start
    header = _header(notes, placed, offset, own_size)
    first = placed[0].offset if placed else offset
    return CoreLayout(
        header.ljust(first, b"\0"), tuple(placed), offset + own_size, offset, own_size
    )


def _header(
    notes: CoreNotes, segments: Sequence[LoadSegment], own_offset: int, own_size: int
) -> bytes:
    """ELF header, section header where the number of segments needs one, headers, notes."""
    content = pack_notes(notes)
    count = 1 + len(segments) + (own_size > 0)
    extended = count >= PN_XNUM
    phoff = EHDR.size + (SHDR.size if extended else 0)
    ehdr = ElfHeader(
        type=ET_CORE,
        machine=EM_X86_64,
        version=1,
        entry=0,
        phoff=phoff,
        shoff=EHDR.size if extended else 0,
        flags=0,
        ehsize=EHDR.size,
        phentsize=PHDR.size,
        phnum=PN_XNUM if extended else count,
        shentsize=SHDR.size if extended else 0,
        shnum=1 if extended else 0,
        shstrndx=0,
    )
    parts = [ehdr.pack()]
    if extended:
        # Section 0 of type SHT_NULL; sh_size has e_shnum, sh_info e_phnum (gABI, chapter 4).
        parts.append(SHDR.pack(0, 0, 0, 0, 0, 1, 0, count, 0, 0))
    parts.append(_note_header(phoff + count * PHDR.size, len(content)))
    parts += [
        PHDR.pack(PT_LOAD, flags, offset, start, 0, end - start, end - start, PAGE_SIZE)
        for start, end, flags, offset in segments
    ]
    if own_size:
        parts.append(_note_header(own_offset, own_size))
    return b"".join((*parts, content))


def _note_header(offset: int, size: int) -> bytes:
    return PHDR.pack(PT_NOTE, 0, offset, 0, 0, size, 0, 4)


def read_core(file: BinaryIO) -> Core:
    """Headers and notes of a core; memory stays in the file.

    Raises:
        DumpFormatError: the file is no core of Linux x86-64, is cut, or is damaged.
    """
    headers = _checked_headers(file)
    return Core(parse_notes(_notes(file, headers)), _segments(headers))


def read_notes(file: BinaryIO) -> Iterator[Note]:
    """Every note of a core in the file's order, those too that `read_core` has no use for.

    Raises:
        DumpFormatError: as `read_core`.
    """
    return _notes(file, _checked_headers(file))


def _checked_headers(file: BinaryIO) -> list[ProgramHeader]:
    size = file.seek(0, 2)
    header = ElfHeader.unpack(_read_at(file, 0, min(size, EHDR.size)))
    if header.type != ET_CORE:
        raise DumpFormatError("an ELF file, but not a core dump", offset=16)
    if header.machine != EM_X86_64:
        raise DumpFormatError(
            f"a core of another processor (ELF machine {header.machine}) is not supported",
            offset=18,
        )
    headers = [h for h in _program_headers(file, header, size) if h.type in (PT_NOTE, PT_LOAD)]
    end = max((h.offset + h.filesz for h in headers), default=0)
    if end > size:
        raise DumpFormatError(f"the file is cut: it needs {end} bytes and has {size}", offset=size)
    return headers


def _notes(file: BinaryIO, headers: Sequence[ProgramHeader]) -> Iterator[Note]:
    parts = [h for h in headers if h.type == PT_NOTE]
    if sum(h.filesz for h in parts) > _MAX_NOTES_SIZE:
        raise DumpFormatError("damaged ELF core: too many notes", offset=parts[0].offset)
    for h in parts:
        yield from iter_notes(_read_at(file, h.offset, h.filesz), offset=h.offset)


def _segments(headers: Sequence[ProgramHeader]) -> tuple[LoadSegment, ...]:
    # The kernel leaves out the end of what it does not dump (p_filesz < p_memsz), often all.
    loads = sorted((h for h in headers if h.type == PT_LOAD and h.filesz), key=lambda h: h.vaddr)
    segments = [LoadSegment(h.vaddr, h.vaddr + h.filesz, h.flags, h.offset) for h in loads]
    for h, segment in zip(loads, segments, strict=True):
        if h.filesz > h.memsz or segment.end > _ADDRESS_LIMIT:
            raise _damaged_segment(segment)
    for before, segment in pairwise(segments):
        if before.end > segment.start:
            raise _damaged_segment(segment)
    return tuple(segments)


def _program_headers(file: BinaryIO, header: ElfHeader, size: int) -> list[ProgramHeader]:
    count = header.phnum
    if count == PN_XNUM:
        if header.shoff + SHDR.size > size:
            raise DumpFormatError("damaged ELF core: section header 0 is missing", offset=40)
        count = SHDR.unpack(_read_at(file, header.shoff, SHDR.size))[7]
    if count > _MAX_HEADERS or header.phoff + count * PHDR.size > size:
        raise DumpFormatError(
            f"damaged ELF core: {count} program headers do not fit into it", offset=32
        )
    table = _read_at(file, header.phoff, count * PHDR.size)
    return [ProgramHeader(*fields) for fields in PHDR.iter_unpack(table)]


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise DumpFormatError("the file ended while it was read", offset=offset + len(data))
    return data


def _damaged_segment(segment: LoadSegment) -> DumpFormatError:
    return DumpFormatError(
        f"damaged ELF core: load segment 0x{segment.start:x}-0x{segment.end:x} overlaps another "
        "or overflows",
        offset=segment.offset,
    )


def flags_of(protection: str) -> int:
    """PF_* flags from a protection as /proc/PID/maps has it ("rw-p")."""
    return sum(flag for letter, flag in _LETTERS if letter in protection[:3])


def protection_of(flags: int) -> str:
    """The protection of a private mapping with these PF_* flags ("rw-p")."""
    return "".join(letter if flags & flag else "-" for letter, flag in _LETTERS) + "p"


_LETTERS = (("r", PF_R), ("w", PF_W), ("x", PF_X))


def special_diag_info(*, runtime_base: int, exception_record: int = 0) -> bytes:
    """The page that tells readers where the runtime is, for SPECIAL_DIAG_INFO_ADDRESS.

    `exception_record` is the address of an EXCEPTION_RECORD in the target, 0 for none.
    """
    return _SPECIAL_DIAG_INFO.pack(
        b"DIAGINFOHEADER", _SPECIAL_DIAG_INFO_VERSION, exception_record, runtime_base
    ).ljust(PAGE_SIZE, b"\0")


class SpecialDiagInfo(NamedTuple):
    """What that page says; addresses in the target, 0 where there is none."""

    exception_record: int
    runtime_base: int


def parse_special_diag_info(data: bytes) -> SpecialDiagInfo | None:
    """What the page at SPECIAL_DIAG_INFO_ADDRESS says; None where it is no such page."""
    if len(data) < _SPECIAL_DIAG_INFO.size or not data.startswith(b"DIAGINFOHEADER\0"):
        return None
    _, version, exception_record, runtime_base = _SPECIAL_DIAG_INFO.unpack_from(data)
    return SpecialDiagInfo(exception_record, runtime_base if version > 1 else 0)
