"""A dump file as a Target: what a live process tells, read from the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DumpFormatError
from ..formats.elf import ELF_MAGIC
from ..formats.minidump import MAGIC
from ..formats.seekable import MAGIC as PACKED
from ..formats.seekable import PackedFile
from .base import DumpBytes, DumpFile
from .core import CoreFile
from .windows import MinidumpFile

__all__ = ["DumpFile", "open_bytes", "open_dump"]

_FORMATS = {ELF_MAGIC: CoreFile, MAGIC: MinidumpFile}


def open_dump(path: str | os.PathLike[str]) -> DumpFile:
    """Open a dump to read it; close it, or use it in a `with` statement.

    Raises:
        DumpFormatError: it cannot be opened, is no dump of a known format, is cut or damaged.
    """
    name = os.fspath(path)
    file = open_bytes(path)
    with _named(name, file):
        kind = _FORMATS.get(file.read(len(MAGIC)))
        if kind is None:
            raise DumpFormatError("neither an ELF core nor any other dump")
        return kind(name, file)
    raise AssertionError


def open_bytes(path: str | os.PathLike[str]) -> DumpBytes:
    """Open a file to read it unpacked, whether it is compressed or not.

    Raises:
        DumpFormatError: it cannot be opened, or is compressed in a way that cannot be read.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # a pipe would be waited for
            raise DumpFormatError(f"cannot open {name}: it is not a file", path=name)
        file = open(name, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
    except OSError as err:
        raise DumpFormatError(f"cannot open {name}: {err.strerror}", path=name) from err
    with _named(name, file):
        packed = file.read(len(PACKED)) == PACKED
        file.seek(0)
        return PackedFile(file) if packed else file
    raise AssertionError


@contextmanager
def _named(path: str, file: DumpBytes) -> Iterator[None]:
    """Close the file where it cannot be read, and name it in the error."""
    try:
        yield
    except BaseException as err:
        file.close()
        if isinstance(err, OSError):
            raise DumpFormatError(f"cannot read {path}: {err.strerror}", path=path) from err
        if isinstance(err, DumpFormatError):
            raise DumpFormatError(
                f"{path}: {err}", path=path, offset=err.offset, hint=err.hint
            ) from err
        raise
