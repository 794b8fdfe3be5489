"""The environment blocks of Windows: a TEB for each thread, the PEB, what the process was given."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ..errors import MemoryFaultError
from ..formats.context import AMD64_CONTEXT_SIZE
from ..ranges import PAGE_SIZE, Reason, ReasonedRange, page_aligned
from ..target import MemoryReader, ThreadInfo

_TEB_SIZE = 2 * PAGE_SIZE  # 0x1838 bytes on x64, a page on x86
_TEB_PEB = {4: 0x30, 8: 0x60}  # TEB.ProcessEnvironmentBlock, by bytes of a pointer
_PEB_PARAMETERS = {4: 0x10, 8: 0x20}  # PEB.ProcessParameters, winternl.h
_SIZE_OFFSET = 4  # RTL_USER_PROCESS_PARAMETERS.Length, in front of which is MaximumLength
_MAX_PARAMETERS = 1 << 20


def environment_blocks(
    memory: MemoryReader, threads: Sequence[ThreadInfo]
) -> Iterator[ReasonedRange]:
    """Ranges of reason STACK; nothing where threads have no TEB."""
    for thread in threads:
        if thread.teb:
            yield page_aligned(thread.teb, thread.teb + _TEB_SIZE, Reason.STACK)
    first = next((thread for thread in threads if thread.teb), None)
    if first is None:
        return
    width = 8 if len(first.context) == AMD64_CONTEXT_SIZE else 4
    try:
        peb = _pointer(memory, first.teb + _TEB_PEB[width], width)
        yield page_aligned(peb, peb + PAGE_SIZE, Reason.STACK)
        parameters = _pointer(memory, peb + _PEB_PARAMETERS[width], width)
        (size,) = struct.unpack("<I", memory.read(parameters + _SIZE_OFFSET, 4))
        end = parameters + min(size, _MAX_PARAMETERS)
        yield page_aligned(parameters, end, Reason.STACK)
    except MemoryFaultError:
        return  # a damaged process: what can be read is kept


def _pointer(memory: MemoryReader, address: int, width: int) -> int:
    return int.from_bytes(memory.read(address, width), "little")
