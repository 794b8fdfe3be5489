"""A dump file as a Target: what a live process tells, read from the file."""

from __future__ import annotations

import os

from ..errors import DumpFormatError
from ..formats.elf import ELF_MAGIC
from ..formats.minidump import MAGIC
from .base import DumpFile
from .core import CoreFile
from .windows import MinidumpFile

__all__ = ["DumpFile", "open_dump"]

_FORMATS = {ELF_MAGIC: CoreFile, MAGIC: MinidumpFile}


def open_dump(path: str | os.PathLike[str]) -> DumpFile:
    """Open a dump to read it; close it, or use it in a `with` statement.

    Raises:
        DumpFormatError: it cannot be opened, is no dump of a known format, is cut or damaged.
    """
    name = os.fspath(path)
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115 - the DumpFile closes it
    except OSError as err:
        raise DumpFormatError(f"cannot open {name}: {err.strerror}", path=name) from err
    try:
        kind = _FORMATS.get(file.read(len(MAGIC)))
        if kind is None:
            raise DumpFormatError("neither an ELF core nor any other dump")
        return kind(name, file)
    except BaseException as err:
        file.close()
        if isinstance(err, DumpFormatError):
            raise DumpFormatError(
                f"{name}: {err}", path=name, offset=err.offset, hint=err.hint
            ) from err
        raise
