"""Compressed dumps made plain again, holes and all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

import zstandard

from . import platforms
from .errors import DumpFormatError, UsageError
from .images.sparse import SparseOutput
from .naming import PACKED_SUFFIX

_CHUNK = 1 << 20  # bytes read at once


def unpack(
    path: str | os.PathLike[str],
    place: str | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Unpack a file of zstd to `place`, by default beside it; returns the new file's path.

    `progress` is told the compressed bytes read, and how many there are.

    Raises:
        DumpFormatError: it cannot be opened, is not compressed, is cut or damaged.
        OutputError: the new file cannot be written.
    """
    name = os.fspath(path)
    if place is None:
        if not name.endswith(PACKED_SUFFIX):
            raise UsageError(f"{name} has no name that ends in .zst", hint="give -o FILE")
        place = name.removesuffix(PACKED_SUFFIX)
    backend = platforms.backend()
    try:
        file = open(name, "rb")  # noqa: SIM115 - closed by the next line but one
    except OSError as err:
        raise DumpFormatError(f"cannot open {name}: {err.strerror}", path=name) from err
    with file, backend.output(place, overwrite=overwrite) as plain:
        output = SparseOutput(plain)
        try:
            offset = 0
            for data in _unpacked(file):
                output.put(offset, memoryview(data))
                offset += len(data)
                if progress:
                    progress(file.tell(), os.fstat(file.fileno()).st_size)
            output.commit()
        except OSError as err:
            raise backend.output_error(err, output.path) from err
        except zstandard.ZstdError as err:
            raise DumpFormatError(f"{name}: damaged zstd: {err}", path=name) from err
        except DumpFormatError as err:
            raise DumpFormatError(f"{name}: {err}", path=name) from err
        return output.path


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of all frames."""
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    begun = False
    while packed := file.read(_CHUNK):
        while packed:
            begun = True
            yield frame.decompress(packed)
            packed = b""
            if frame.eof:
                packed = frame.unused_data
                frame, begun = decompressor.decompressobj(), False
    if begun or not file.tell():
        raise DumpFormatError("the file is cut")
