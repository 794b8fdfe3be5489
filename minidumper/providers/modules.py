"""What readers need of every image: headers, dynamic section, notes, the dynamic linker's list."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence

from ..errors import MemoryFaultError
from ..formats.elf import PF_W, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_RELRO, PT_LOAD, PT_NOTE
from ..formats.elfimage import ElfImage, dynamic_section, read_image, symbol_ranges
from ..formats.peimage import PE_MAGIC
from ..ranges import PAGE_SIZE, MemoryRange, Reason, ReasonedRange, page_aligned
from ..target import MemoryReader, ModuleInfo, Target, VmRegion
from .modules_pe import pe_ranges

RUNTIME_MODULES = ("libcoreclr.so", "libclrgc.so", "libclrgcexp.so", "libclrjit.so")
"""Images whose data the DAC reads by symbol or by address."""

_LINK_MAP = struct.Struct("<5Q")  # l_addr, l_name, l_ld, l_next, l_prev: link.h
_MAX_LINKS = 100_000
_NAME_SIZE = 4096  # PATH_MAX, linux/limits.h


class ModuleRanges:
    """Ranges of the images of one target; what is known of an image is not read again."""

    def __init__(self, runtime_folder: str) -> None:
        """`runtime_folder` is where the target's runtime lies, "" where it has none."""
        self._runtime_folder = runtime_folder
        self._known: dict[ModuleInfo, list[ReasonedRange]] = {}

    def ranges(self, target: Target, regions: Sequence[VmRegion]) -> Iterator[ReasonedRange]:
        """Ranges of reason MODULE_HEADER and RUNTIME_DATA."""
        for module in target.modules():
            known = self._known.get(module)
            if known is None:
                known = list(self._image(target.memory, module))
                self._known[module] = known
            yield from known
        for region in regions:
            if region.path in ("[vdso]", "linux-vdso.so.1"):
                yield page_aligned(region.start, region.end, Reason.MODULE_HEADER)
            elif region.is_file and region.offset == 0:
                yield page_aligned(region.start, region.start + 1, Reason.MODULE_HEADER)

    def _image(self, memory: MemoryReader, module: ModuleInfo) -> Iterator[ReasonedRange]:
        yield page_aligned(module.base, module.base + 1, Reason.MODULE_HEADER)
        try:
            if memory.read(module.base, len(PE_MAGIC)) == PE_MAGIC:
                yield from pe_ranges(memory, module, self._runtime_folder)
                return
            image = read_image(memory.read, module.base)
            if image is None:
                return
            for kind in (PT_DYNAMIC, PT_NOTE):
                for start, end in image.ranges(kind):
                    yield page_aligned(start, end, Reason.MODULE_HEADER)
            folder, name = os.path.split(module.path)
            if name in RUNTIME_MODULES or ".so" not in name:  # the program can be a single file
                for start, end in symbol_ranges(image):
                    yield page_aligned(start, end, Reason.MODULE_HEADER)
            if name == "libcoreclr.so":
                yield from _unwind_tables(image)
            if name in RUNTIME_MODULES or (folder == self._runtime_folder):
                yield from _data(image)
            yield from _link_maps(memory, image)
        except MemoryFaultError:
            return  # a damaged or half mapped image: its pages are kept as far as they go


def _unwind_tables(image: ElfImage) -> Iterator[ReasonedRange]:
    """.eh_frame_hdr, and .eh_frame behind it, which unwinding through native frames reads."""
    for header in image.headers:
        if header.type == PT_GNU_EH_FRAME:
            start = image.bias + header.vaddr
            owner = [r for r in image.ranges(PT_LOAD) if r.start <= start < r.end]
            yield page_aligned(start, owner[0].end if owner else start, Reason.MODULE_HEADER)


def _data(image: ElfImage) -> Iterator[ReasonedRange]:
    """Writable segments with their .bss, and what was relocated at load (RELRO)."""
    for header in image.headers:
        if header.type == PT_GNU_RELRO or (header.type == PT_LOAD and header.flags & PF_W):
            start = image.bias + header.vaddr
            yield page_aligned(start, start + header.memsz, Reason.RUNTIME_DATA)


def _link_maps(memory: MemoryReader, image: ElfImage) -> Iterator[ReasonedRange]:
    """The dynamic linker's list of loaded objects, which starts at the main program's r_debug."""
    debug = dynamic_section(image).debug
    if not debug:
        return
    yield page_aligned(debug, debug + 40, Reason.MODULE_HEADER)
    (node,) = struct.unpack("<Q", memory.read(debug + 8, 8))
    for _ in range(_MAX_LINKS):
        if not node:
            return
        _, name, _, following, _ = _LINK_MAP.unpack(memory.read(node, _LINK_MAP.size))
        yield page_aligned(node, node + _LINK_MAP.size, Reason.MODULE_HEADER)
        yield page_aligned(name, name + _name_length(memory, name), Reason.MODULE_HEADER)
        node = following


def _name_length(memory: MemoryReader, address: int) -> int:
    """Bytes of the string at `address`, at most PATH_MAX, the final NUL included."""
    text = b""
    while b"\0" not in text and len(text) < _NAME_SIZE:
        at = address + len(text)
        text += memory.read(at, PAGE_SIZE - at % PAGE_SIZE)
    return text.find(b"\0") + 1 or len(text)


def modified_images(target: Target, regions: Sequence[VmRegion]) -> Iterator[ReasonedRange]:
    """Pages of private file mappings that were written: a reader's file would give stale bytes."""
    for region in regions:
        if region.is_file and region.protection[3] == "p":
            for start, end in target.modified_pages(region):
                yield ReasonedRange(start, end, Reason.MODIFIED_IMAGE)


def readable(regions: Sequence[VmRegion]) -> list[MemoryRange]:
    """What the target itself may read, neighbours joined."""
    out: list[MemoryRange] = []
    for region in regions:
        if not region.readable or region.path in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
            continue  # the kernel lets nobody else read these pages
        if out and out[-1].end == region.start:
            out[-1] = MemoryRange(out[-1].start, region.end)
        else:
            out.append(MemoryRange(region.start, region.end))
    return out
