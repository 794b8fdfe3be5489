"""PE images as the loader mapped them: headers, sections, directories.

https://learn.microsoft.com/windows/win32/debug/pe-format
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import MemoryFaultError
from ..ranges import PAGE_SIZE, MemoryRange

PE_MAGIC = b"MZ"
"""IMAGE_DOS_SIGNATURE, winnt.h."""

# IMAGE_DIRECTORY_ENTRY_*, winnt.h
EXPORT_DIRECTORY = 0
EXCEPTION_DIRECTORY = 3
DEBUG_DIRECTORY = 6

SECTION_WRITABLE = 0x8000_0000  # IMAGE_SCN_MEM_WRITE, winnt.h

_NEW_HEADER = struct.Struct("<I")  # e_lfanew
_NEW_HEADER_OFFSET = 0x3C
_MAX_HEADER_OFFSET = 1 << 20  # behind a DOS program of a megabyte, which nobody has
_FILE_HEADER = struct.Struct("<4sHHIIIHH")  # the signature, and IMAGE_FILE_HEADER
_OPTIONAL_32, _OPTIONAL_64 = 0x10B, 0x20B  # IMAGE_NT_OPTIONAL_HDR32_MAGIC, ..64
_SIZES = struct.Struct("<III")  # SizeOfImage, SizeOfHeaders, CheckSum
_SIZES_OFFSET = 56  # in the optional header, of both widths
_DIRECTORIES_OFFSET = {_OPTIONAL_32: 92, _OPTIONAL_64: 108}  # NumberOfRvaAndSizes
_DIRECTORY = struct.Struct("<II")
_MAX_DIRECTORIES = 16  # IMAGE_NUMBEROF_DIRECTORY_ENTRIES
_SECTION = struct.Struct("<8sIIIIIIHHI")
# IMAGE_EXPORT_DIRECTORY, winnt.h: numbers of functions and names, where their tables lie
_EXPORTS = struct.Struct("<20xIIIII")
_RVA = struct.Struct("<I")
_MAX_EXPORTS = 1 << 16  # ordinals have 16 bits
_DEBUG_ENTRY = struct.Struct("<IIHHIIII")  # IMAGE_DEBUG_DIRECTORY
_DEBUG_CODEVIEW = 2  # IMAGE_DEBUG_TYPE_CODEVIEW
_MAX_CODEVIEW = 4096  # bytes: a GUID and the path of a .pdb
_MAX_SECTIONS = 96  # the loader's limit, by the page above


class Section(NamedTuple):
    """A section in memory; `flags` are IMAGE_SCN_*."""

    name: str
    start: int
    end: int
    flags: int


@dataclass(frozen=True, slots=True)
class PeImage:
    """A mapped image; sizes in bytes, `timestamp` as the linker wrote it."""

    base: int
    size: int
    headers_size: int
    timestamp: int
    checksum: int
    sections: tuple[Section, ...]
    directories: tuple[MemoryRange, ...]

    @property
    def build_id(self) -> str:
        """What symbol servers file the image under: its timestamp and size."""
        return f"{self.timestamp:08X}{self.size:x}"

    def directory(self, index: int) -> MemoryRange:
        """A data directory; empty where the image has none."""
        if index < len(self.directories):
            return self.directories[index]
        return MemoryRange(self.base, self.base)

    def codeview_range(self, read: Callable[[int, int], bytes]) -> MemoryRange:
        """Where the CodeView record lies, which tells where the symbols are; empty without one.

        Raises:
            MemoryFaultError: the debug directory cannot be read.
        """
        start, end = self.directory(DEBUG_DIRECTORY)
        table = read(start, (end - start) // _DEBUG_ENTRY.size * _DEBUG_ENTRY.size)
        for *_, kind, size, rva, _ in _DEBUG_ENTRY.iter_unpack(table):
            if kind == _DEBUG_CODEVIEW and rva:
                return _inside(self.base, self.size, rva, min(size, _MAX_CODEVIEW))
        return MemoryRange(self.base, self.base)


def read_pe(read: Callable[[int, int], bytes], base: int) -> PeImage | None:
    """The image that is mapped at `base`, None where its headers are not those of a PE image.

    Raises:
        MemoryFaultError: the headers cannot be read.
    """
    head = read(base, PAGE_SIZE)
    if head[:2] != PE_MAGIC:
        return None
    (at,) = _NEW_HEADER.unpack_from(head, _NEW_HEADER_OFFSET)
    if at > _MAX_HEADER_OFFSET:
        return None
    if at + _FILE_HEADER.size + _SECTION.size * _MAX_SECTIONS > PAGE_SIZE:
        head += _following(read, base + PAGE_SIZE, at + _FILE_HEADER.size)
    try:
        return _parse(head, at, base)
    except struct.error:
        return None


def lookup_export(image: PeImage, read: Callable[[int, int], bytes], name: str) -> int | None:
    """The address of a symbol that the image exports by name.

    Raises:
        MemoryFaultError: the export table cannot be read.
    """
    exports = image.directory(EXPORT_DIRECTORY)
    if exports.size < _EXPORTS.size:
        return None
    _, count, functions, names, ordinals = _EXPORTS.unpack(read(exports.start, _EXPORTS.size))
    wanted = name.encode("ascii") + b"\0"
    pointers = read(image.base + names, _RVA.size * min(count, _MAX_EXPORTS))
    for index, (rva,) in enumerate(_RVA.iter_unpack(pointers)):
        try:
            if read(image.base + rva, len(wanted)) != wanted:
                continue
        except MemoryFaultError:  # a shorter name at the end of what is mapped
            continue
        ordinal = int.from_bytes(read(image.base + ordinals + 2 * index, 2), "little")
        function = read(image.base + functions + _RVA.size * ordinal, _RVA.size)
        return image.base + int.from_bytes(function, "little")
    return None


def _following(read: Callable[[int, int], bytes], start: int, size: int) -> bytes:
    """Pages after the first, as far as there are any."""
    out = b""
    for address in range(start, start + size + PAGE_SIZE, PAGE_SIZE):
        try:
            out += read(address, PAGE_SIZE)
        except MemoryFaultError:
            break
    return out


def _parse(head: bytes, at: int, base: int) -> PeImage | None:
    signature, _, sections, timestamp, _, _, optional_size, _ = _FILE_HEADER.unpack_from(head, at)
    optional = at + _FILE_HEADER.size
    (magic,) = struct.unpack_from("<H", head, optional)
    if signature != b"PE\0\0" or magic not in _DIRECTORIES_OFFSET or sections > _MAX_SECTIONS:
        return None
    size, headers_size, checksum = _SIZES.unpack_from(head, optional + _SIZES_OFFSET)
    directories = optional + _DIRECTORIES_OFFSET[magic]
    (count,) = _NEW_HEADER.unpack_from(head, directories)
    found = []
    for index in range(min(count, _MAX_DIRECTORIES)):
        rva, length = _DIRECTORY.unpack_from(head, directories + 4 + _DIRECTORY.size * index)
        found.append(_inside(base, size, rva, length))
    table = []
    for index in range(sections):
        name, virtual_size, rva, raw_size, *_, flags = _SECTION.unpack_from(
            head, optional + optional_size + _SECTION.size * index
        )
        start, end = _inside(base, size, rva, virtual_size or raw_size)
        table.append(Section(name.rstrip(b"\0").decode("latin-1"), start, end, flags))
    return PeImage(
        *(base, size, min(headers_size, size), timestamp, checksum), tuple(table), tuple(found)
    )


def _inside(base: int, size: int, rva: int, length: int) -> MemoryRange:
    """A part of the image, cut at its end: hostile headers say anything."""
    start = base + min(rva, size)
    return MemoryRange(start, min(start + length, base + size))
