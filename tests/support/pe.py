"""A PE image in memory, made by hand: .text and .data, an export and a debug directory."""

from __future__ import annotations

import struct
from collections.abc import Callable

from minidumper.errors import MemoryFaultError
from minidumper.formats.peimage import DEBUG_DIRECTORY, EXPORT_DIRECTORY

BASE = 0x7FF6_0000_0000
SIZE = 0x9000
HEADER = 0x80
CODEVIEW = b"RSDS" + bytes(range(16)) + struct.pack("<I", 1) + b"a.pdb\0"


def headers(*, magic: int = 0x20B, sections: int = 2) -> bytearray:
    """A page of headers: .text and .data, an export and a debug directory."""
    page = bytearray(0x1000)
    page[:2] = b"MZ"
    struct.pack_into("<I", page, 0x3C, HEADER)
    optional = 112 + 16 * 8 if magic == 0x20B else 96 + 16 * 8
    struct.pack_into(
        *("<4sHHIIIHH", page, HEADER, b"PE\0\0", 0x8664, sections, 0x5F00_0001, 0, 0),
        *(optional, 0x22),
    )
    at = HEADER + 24
    struct.pack_into("<H", page, at, magic)
    struct.pack_into("<III", page, at + 56, SIZE, 0x400, 0xABCD)
    count = at + (108 if magic == 0x20B else 92)
    struct.pack_into("<I", page, count, 16)
    struct.pack_into("<II", page, count + 4 + 8 * EXPORT_DIRECTORY, 0x2000, 0x40)
    struct.pack_into("<II", page, count + 4 + 8 * DEBUG_DIRECTORY, 0x2100, 2 * 28)
    for index, (name, rva, flags) in enumerate(
        [(b".text", 0x1000, 0x6000_0020), (b".data", 0x3000, 0xC000_0040)]
    ):
        struct.pack_into(
            *("<8sIIIIIIHHI", page, at + optional + 40 * index, name),
            *(0x1800, rva, 0x1600, 0x400, 0, 0, 0, 0, flags),
        )
    return page


def memory(page: bytearray) -> Callable[[int, int], bytes]:
    """An image with that first page, and a debug directory whose second entry is CodeView."""
    image = page.ljust(SIZE, b"\0")
    entries = [(16, 0, 0), (2, len(CODEVIEW), 0x2200)]
    for index, (kind, size, rva) in enumerate(entries):
        struct.pack_into("<12xIIII", image, 0x2100 + 28 * index, kind, size, rva, 0)
    image[0x2200 : 0x2200 + len(CODEVIEW)] = CODEVIEW

    def read(address: int, size: int) -> bytes:
        data = bytes(image[address - BASE : address - BASE + size])
        if address < BASE or len(data) != size:
            raise MemoryFaultError("nothing there", address=address, size=size)
        return data

    return read
