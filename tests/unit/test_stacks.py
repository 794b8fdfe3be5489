"""Which pages of each thread's stack belong to a dump."""

from __future__ import annotations

import struct

from minidumper.providers.stacks import RED_ZONE, stack_ranges
from minidumper.ranges import PAGE_SIZE, ReasonedRange
from minidumper.target import ThreadInfo, VmRegion

STACK = 0x7F00_0010_0000
TOP = 0x7F00_0018_0000
HEAP_END = 0x7F00_1000_0000
IP = 0x10_0000
LOCAL = TOP - 0x940
"""A thread pointer as glibc sets it: struct pthread (0x900 bytes) ends below the stack's end."""


def thread(sp: int, thread_pointer: int, tid: int = 2) -> ThreadInfo:
    """NT_PRSTATUS has fs_base as the 22nd register (sys/user.h, struct user_regs_struct)."""
    registers = struct.pack("<27Q", *[0] * 21, thread_pointer, *[0] * 5)
    return ThreadInfo(tid=tid, ip=IP, sp=sp, context=b"", regsets={1: registers})


def taken(regions: list[VmRegion], *threads: ThreadInfo) -> set[int]:
    """The pages, without those of the instruction pointer."""
    ranges: list[ReasonedRange] = list(stack_ranges(regions, threads))
    pages = {page for r in ranges for page in range(r.start, r.end, PAGE_SIZE)}
    return {page for page in pages if page > IP}


def test_a_stack_from_its_pointer_to_its_end() -> None:
    sp = TOP - 0x3000
    regions = [VmRegion(STACK, TOP, "rw-p"), VmRegion(TOP, HEAP_END, "rw-p")]
    pages = taken(regions, thread(sp, LOCAL, 1), thread(sp, LOCAL))
    assert pages == set(range((sp - RED_ZONE) & -PAGE_SIZE, TOP, PAGE_SIZE))


def test_a_stack_that_the_kernel_joined_to_the_heap_above_it() -> None:
    regions = [VmRegion(STACK, HEAP_END, "rw-p")]
    pages = taken(regions, thread(TOP - 0x3000, LOCAL, 1))
    assert max(pages) <= TOP
    assert len(pages) == 5


def test_the_usual_stack_of_a_thread_on_its_alternate_one() -> None:
    alternate = VmRegion(STACK - 0x10_0000, STACK - 0xF_C000, "rw-p")
    regions = [alternate, VmRegion(STACK, HEAP_END, "rw-p")]
    first = thread(alternate.end - 0x100, 0, 1)
    pages = taken(regions, first, thread(alternate.end - 0x100, LOCAL))
    assert {STACK, alternate.end - PAGE_SIZE} <= pages
    assert max(pages) <= TOP


def test_the_first_thread_has_its_stack_from_the_kernel() -> None:
    main = VmRegion(0x7FFF_0000_0000, 0x7FFF_0002_0000, "rw-p", path="[stack]")
    local = VmRegion(STACK, TOP, "rw-p")
    sp = main.end - 0x1800
    pages = taken([local, main], thread(sp, STACK + 0x740, 1))
    assert pages == {STACK, *range((sp - RED_ZONE) & -PAGE_SIZE, main.end, PAGE_SIZE)} | {
        STACK + PAGE_SIZE
    }
