"""What a stack walk of every thread reads: the used part of each stack, thread-local storage."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from ..ranges import PAGE_SIZE, Reason, ReasonedRange, page_aligned
from ..target import ThreadInfo, VmRegion

RED_ZONE = 128
"""Bytes below the stack pointer that a leaf function may use (System V AMD64 ABI, 3.2.2)."""

_NT_PRSTATUS = 1
_FS_BASE = 21 * 8  # offset in struct user_regs_struct, sys/user.h


def stack_ranges(
    regions: Sequence[VmRegion], threads: Sequence[ThreadInfo]
) -> Iterator[ReasonedRange]:
    """Ranges of reason STACK; `regions` are sorted by address."""
    starts = [region.start for region in regions]

    def region_at(address: int) -> VmRegion | None:
        index = bisect_right(starts, address) - 1
        return regions[index] if index >= 0 and address < regions[index].end else None

    main_stack = next((region for region in regions if region.path == "[stack]"), None)
    for thread in threads:
        stack = region_at(thread.sp)
        base = _thread_pointer(thread)
        # glibc keeps a thread's local storage at the top of its stack (struct pthread: 0x900 bytes
        # above its pointer). The region may go on: the kernel joins it to a GC heap above it.
        top = base + PAGE_SIZE
        if stack:
            low = max(stack.start, thread.sp - RED_ZONE)
            high = min(stack.end, top) if thread.sp <= base else stack.end
            yield page_aligned(low, high, Reason.STACK)
        # The instruction pointer's page and the one before, as createdump has them.
        yield page_aligned(max(0, thread.ip - PAGE_SIZE), thread.ip + 1, Reason.STACK)
        local = region_at(base)
        if local is None:
            continue
        end = min(local.end, top)
        yield page_aligned(max(local.start, base - PAGE_SIZE), end, Reason.STACK)
        # Another region at the stack pointer means that the thread is on its alternate stack.
        usual = main_stack if thread is threads[0] else local
        if usual is not None and usual is not stack:
            yield page_aligned(usual.start, end if usual is local else usual.end, Reason.STACK)


def _thread_pointer(thread: ThreadInfo) -> int:
    registers = thread.regsets.get(_NT_PRSTATUS, b"")
    if len(registers) < _FS_BASE + 8:
        return 0
    return int(struct.unpack_from("<Q", registers, _FS_BASE)[0])
