"""A minidump as a Target."""

from __future__ import annotations

import dataclasses
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import PureWindowsPath

from ..formats.elfnotes import ProcessInfo
from ..formats.minidump import MemorySegment, Module, RegionInfo, Thread
from ..formats.minidump_reader import read_minidump
from ..images.minidump import StrippedMinidump
from ..plan import DumpPlan
from ..ranges import MemoryRange
from ..target import ModuleInfo, ThreadInfo, VmRegion
from .base import DumpBytes, DumpFile

# Offsets of the program counter and the stack pointer in CONTEXT, and their width, by
# PROCESSOR_ARCHITECTURE_* of winnt.h: x86, ARM, x64, ARM64.
_REGISTERS = {
    0: (0xB8, 0xC4, "<I"),
    5: (0x40, 0x38, "<I"),
    9: (0xF8, 0x98, "<Q"),
    12: (0x108, 0x100, "<Q"),
}
_PROTECTION = {
    0x02: "r--",  # PAGE_READONLY
    0x04: "rw-",  # PAGE_READWRITE
    0x08: "r--",  # PAGE_WRITECOPY: a page that is written becomes PAGE_READWRITE
    0x20: "r-x",  # PAGE_EXECUTE_READ
    0x40: "rwx",  # PAGE_EXECUTE_READWRITE
    0x80: "r-x",  # PAGE_EXECUTE_WRITECOPY
}
"""https://learn.microsoft.com/windows/win32/memory/memory-protection-constants"""
_UNKNOWN = "r--"  # its bytes are in the file, so it was readable
_LOW_BITS = 0xFF  # the protection of PAGE_* without its modifiers, winnt.h
_MEM_MAPPED = 0x40000


class MinidumpFile(DumpFile):
    """A minidump of Windows."""

    def __init__(self, path: str, file: DumpBytes) -> None:
        dump = read_minidump(file)
        super().__init__(path, file, dump.segments)
        self._streams = dump.streams
        self._dump_segments = dump.segments
        self._timestamp = dump.timestamp
        self._modules = sorted(dump.streams.modules, key=lambda module: module.base)
        self.process = self._process()
        self.note = dump.streams.own
        self.auxv = {}

    def _process(self) -> ProcessInfo | None:
        misc, modules = self._streams.misc, self._streams.modules
        if misc is None or misc.pid is None:
            return None
        # The program itself is the first of the loader's list.
        return ProcessInfo(misc.pid, name=PureWindowsPath(modules[0].name).stem if modules else "")

    @property
    def pid(self) -> int:
        """The process id; 0 where it is not known."""
        return self.process.pid if self.process else 0

    def regions(self) -> Sequence[VmRegion]:
        """The memory that the file holds, cut where the system's regions and images do."""
        edges = sorted(
            {edge for region in self._streams.regions for edge in (region.start, region.end)}
            | {edge for m in self._modules for edge in (m.base, m.base + m.size)}
        )
        infos = sorted(self._streams.regions)
        return [
            _region(start, end, _holding(infos, start), _image(self._modules, start))
            for start, end in _cut(self._dump_segments, edges)
        ]

    def threads(self) -> Sequence[ThreadInfo]:
        """All threads in the file's order, which has the main thread first."""
        system = self._streams.system
        registers = _REGISTERS.get(system.architecture) if system else None
        return [_thread_info(thread, registers) for thread in self._streams.threads]

    def modules(self) -> Sequence[ModuleInfo]:
        """The loaded images, each path once, sorted by base."""
        found: dict[str, ModuleInfo] = {}
        for m in self._modules:
            # What symbol servers file a PE image under, as for a live process.
            key = f"{m.timestamp:08X}{m.size:x}"
            found.setdefault(m.name, ModuleInfo(m.name, m.base, m.base + m.size, key, m.version))
        return list(found.values())

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """The region, where it was written: until then its protection is another."""
        return [MemoryRange(region.start, region.end)] if region.protection[1] == "w" else []

    def image(self, plan: DumpPlan, *, runtime_base: int) -> StrippedMinidump:
        """Lay out a minidump that holds less of the same memory."""
        streams = dataclasses.replace(self._streams, own={})
        return StrippedMinidump(self, plan, self.regions(), streams, timestamp=self._timestamp)


def _cut(segments: Sequence[MemorySegment], edges: Sequence[int]) -> Iterator[MemoryRange]:
    for start, end, _ in segments:
        index = bisect_right(edges, start)
        while index < len(edges) and edges[index] < end:
            yield MemoryRange(start, edges[index])
            start = edges[index]
            index += 1
        yield MemoryRange(start, end)


def _holding(infos: Sequence[RegionInfo], address: int) -> RegionInfo | None:
    index = bisect_right(infos, address, key=lambda info: info.start) - 1
    return infos[index] if index >= 0 and address < infos[index].end else None


def _image(modules: Sequence[Module], address: int) -> Module | None:
    index = bisect_right(modules, address, key=lambda module: module.base) - 1
    found = modules[index] if index >= 0 else None
    return found if found and address < found.base + found.size else None


def _region(start: int, end: int, info: RegionInfo | None, image: Module | None) -> VmRegion:
    letters = _PROTECTION.get(info.protect & _LOW_BITS, _UNKNOWN) if info else _UNKNOWN
    sharing = "s" if info and info.type == _MEM_MAPPED else "p"
    if image is None:
        return VmRegion(start, end, letters + sharing)
    return VmRegion(start, end, letters + sharing, start - image.base, image.name)


def _thread_info(thread: Thread, registers: tuple[int, int, str] | None) -> ThreadInfo:
    ip, sp = 0, thread.stack.start
    if registers:
        ip_offset, sp_offset, width = registers
        if len(thread.context) >= max(ip_offset, sp_offset) + struct.calcsize(width):
            (ip,) = struct.unpack_from(width, thread.context, ip_offset)
            (sp,) = struct.unpack_from(width, thread.context, sp_offset)
    return ThreadInfo(thread.tid, ip, sp, thread.context, name=thread.name, teb=thread.teb)
