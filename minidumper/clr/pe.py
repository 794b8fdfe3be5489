"""What is asked of a PE image in memory: its identity and its exports.

https://learn.microsoft.com/windows/win32/debug/pe-format
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import MemoryFaultError
from ..formats.elfimage import ReadMemory

_MAGIC = b"MZ"
_SIGNATURE = b"PE\0\0"
_PE32_PLUS = 0x20B
_E_LFANEW = 0x3C
_OPTIONAL_HEADER = 24  # behind the signature and the COFF header
_SIZE_OF_IMAGE = _OPTIONAL_HEADER + 56
_EXPORT_TABLE = {False: _OPTIONAL_HEADER + 96, True: _OPTIONAL_HEADER + 112}  # PE32, PE32+
_HEADER_SIZE = _EXPORT_TABLE[True] + 8
_MAX_NAMES = 1 << 16
"""Ordinals have 16 bits."""


@dataclass(frozen=True, slots=True)
class PeImage:
    """An image at `base`; symbol servers know it by `timestamp` and `size` (bytes)."""

    read: ReadMemory
    base: int
    timestamp: int
    size: int
    exports: int

    @property
    def index(self) -> str:
        """Its key in a symbol server: https://github.com/dotnet/symstore, SSQP_Key_Conventions."""
        return f"{self.timestamp:08X}{self.size:x}"


def read_pe(read: ReadMemory, base: int) -> PeImage | None:
    """The image whose DOS header is at `base`; None where there is no sound one.

    Raises:
        MemoryFaultError: the headers cannot be read.
    """
    if read(base, 2) != _MAGIC:
        return None
    (offset,) = struct.unpack("<I", read(base + _E_LFANEW, 4))
    header = read(base + offset, _HEADER_SIZE)
    if not header.startswith(_SIGNATURE):
        return None
    (timestamp,) = struct.unpack_from("<I", header, 8)
    (magic,) = struct.unpack_from("<H", header, _OPTIONAL_HEADER)
    (size,) = struct.unpack_from("<I", header, _SIZE_OF_IMAGE)
    (exports,) = struct.unpack_from("<I", header, _EXPORT_TABLE[magic == _PE32_PLUS])
    return PeImage(read, base, timestamp, size, exports)


def lookup_export(image: PeImage, name: str) -> int | None:
    """The address of an exported symbol.

    Raises:
        MemoryFaultError: the export table cannot be read.
    """
    if not image.exports:
        return None
    table = image.read(image.base + image.exports, 40)
    functions, names, ordinals = struct.unpack_from("<III", table, 28)
    (count,) = struct.unpack_from("<I", table, 24)
    wanted = name.encode() + b"\0"
    for index in range(min(count, _MAX_NAMES)):
        (at,) = struct.unpack("<I", image.read(image.base + names + 4 * index, 4))
        try:
            if image.read(image.base + at, len(wanted)) != wanted:
                continue
        except MemoryFaultError:  # a shorter name at the end of the image
            continue
        (ordinal,) = struct.unpack("<H", image.read(image.base + ordinals + 2 * index, 2))
        (entry,) = struct.unpack("<I", image.read(image.base + functions + 4 * ordinal, 4))
        return image.base + int(entry)
    return None
