"""What the providers name of a Windows process: images, TEBs, the PEB."""

from __future__ import annotations

import struct

from minidumper.errors import MemoryFaultError
from minidumper.formats.context import AMD64_CONTEXT_SIZE
from minidumper.providers.environment import environment_blocks
from minidumper.providers.modules_pe import pe_ranges
from minidumper.ranges import MemoryRange, Reason, union
from minidumper.target import ModuleInfo, ThreadInfo
from tests.support.pe import BASE, SIZE, headers, memory

TEB, PEB, PARAMETERS = 0x20_0000, 0x30_0000, 0x40_0F00


class Memory:
    """Pages by address; all else is a fault."""

    def __init__(self, pages: dict[int, bytes]) -> None:
        self._pages = pages

    def read(self, address: int, size: int) -> bytes:
        page = self._pages.get(address & -0x1000)
        at = address & 0xFFF
        if page is None or at + size > len(page):
            raise MemoryFaultError("nothing there", address=address, size=size)
        return page[at : at + size]

    def read_into(self, address: int, buffer: memoryview) -> int:
        raise AssertionError("not asked for")


class ImageMemory:
    """The image that test_peimage makes."""

    read = staticmethod(memory(headers()))

    def read_into(self, address: int, buffer: memoryview) -> int:
        raise AssertionError("not asked for")


def page(values: dict[int, int], width: int) -> bytes:
    data = bytearray(0x1000)
    for offset, value in values.items():
        data[offset : offset + width] = value.to_bytes(width, "little")
    return bytes(data)


def named(name: str, folder: str = r"C:\app", runtime: str = r"c:\dotnet") -> dict[Reason, int]:
    """Bytes by reason that an image of that name gives."""
    module = ModuleInfo(f"{folder}\\{name}", BASE, BASE + SIZE)
    found = union(pe_ranges(ImageMemory(), module, runtime))
    assert all(BASE <= start < end <= BASE + SIZE for start, end, _ in found)
    totals: dict[Reason, int] = {}
    for start, end, reasons in found:
        totals[reasons] = totals.get(reasons, 0) + end - start
    return totals


def test_every_image_has_its_headers_and_symbol_identity() -> None:
    assert named("other.dll") == {Reason.MODULE_HEADER: 0x2000}


def test_the_runtime_has_its_data_too() -> None:
    data = {Reason.MODULE_HEADER: 0x2000, Reason.RUNTIME_DATA: 0x2000}
    assert named("CoreCLR.dll") == data
    assert named("System.Linq.dll", folder=r"C:\DotNet") == data


def test_threads_have_their_teb_and_the_process_its_peb() -> None:
    threads = [
        ThreadInfo(1, 0, 0, bytes(AMD64_CONTEXT_SIZE), teb=TEB),
        ThreadInfo(2, 0, 0, bytes(AMD64_CONTEXT_SIZE), teb=TEB + 0x2000),
    ]
    pages = {
        TEB: page({0x60: PEB}, 8),
        PEB: page({0x20: PARAMETERS}, 8),
        PARAMETERS & -0x1000: page({0xF04: 0x800}, 4),
    }
    found = union(environment_blocks(Memory(pages), threads))
    assert [MemoryRange(start, end) for start, end, _ in found] == [
        (TEB, TEB + 0x4000),
        (PEB, PEB + 0x1000),
        (0x40_0000, 0x40_2000),
    ]
    assert {reasons for *_, reasons in found} == {Reason.STACK}


def test_a_32_bit_process_has_them_elsewhere() -> None:
    pages = {TEB: page({0x30: PEB}, 4), PEB: page({0x10: PARAMETERS}, 4)}
    thread = ThreadInfo(1, 0, 0, bytes(716), teb=TEB)
    found = union(environment_blocks(Memory(pages), [thread]))
    assert found[-1][:2] == (PEB, PEB + 0x1000)  # of the parameters nothing can be read


def test_linux_threads_have_none() -> None:
    thread = ThreadInfo(1, 0, 0, struct.pack("<Q", 0))
    assert list(environment_blocks(Memory({}), [thread])) == []
