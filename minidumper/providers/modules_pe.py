"""What readers need of a PE image: headers, symbol identity, the runtime's tables and data."""

from __future__ import annotations

import ntpath
from collections.abc import Iterator

from ..formats.peimage import (
    DEBUG_DIRECTORY,
    EXPORT_DIRECTORY,
    SECTION_WRITABLE,
    PeImage,
    read_pe,
)
from ..ranges import Reason, ReasonedRange, page_aligned
from ..target import MemoryReader, ModuleInfo

RUNTIME_MODULES = ("coreclr.dll", "clr.dll", "clrgc.dll", "clrgcexp.dll", "clrjit.dll")
"""Images whose data the DAC reads by address; clr.dll is the .NET Framework's."""

_TABLES = (".rdata", ".pdata")  # unwind information, and the functions that have it


def pe_ranges(
    memory: MemoryReader, module: ModuleInfo, runtime_folder: str
) -> Iterator[ReasonedRange]:
    """Ranges of reason MODULE_HEADER and RUNTIME_DATA.

    Raises:
        MemoryFaultError: the image is damaged or half mapped.
    """
    image = read_pe(memory.read, module.base)
    if image is None:
        return
    yield page_aligned(image.base, image.base + image.headers_size, Reason.MODULE_HEADER)
    yield page_aligned(*image.directory(DEBUG_DIRECTORY), Reason.MODULE_HEADER)
    codeview = image.codeview_range(memory.read)
    yield page_aligned(*codeview, Reason.MODULE_HEADER)
    folder, name = ntpath.split(module.path.lower())
    if name in RUNTIME_MODULES:
        yield page_aligned(*image.directory(EXPORT_DIRECTORY), Reason.MODULE_HEADER)
        yield from _tables(image)
    if name in RUNTIME_MODULES or folder == runtime_folder.lower():
        yield from _data(image)


def _tables(image: PeImage) -> Iterator[ReasonedRange]:
    """What unwinding through the runtime's native frames reads."""
    for section in image.sections:
        if section.name in _TABLES:
            yield page_aligned(section.start, section.end, Reason.MODULE_HEADER)


def _data(image: PeImage) -> Iterator[ReasonedRange]:
    for section in image.sections:
        if section.flags & SECTION_WRITABLE:
            yield page_aligned(section.start, section.end, Reason.RUNTIME_DATA)
