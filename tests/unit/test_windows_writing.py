"""The parts of the Windows writer that need no Windows: answers to dbghelp, and sinks."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidumper.dbghelp import (
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_TYPE,
    S_FALSE,
)
from minidumper.errors import CaptureError
from minidumper.formats.minidump import MemorySegment
from minidumper.platforms.windows.planhandler import PlanHandler
from minidumper.platforms.windows.sinks import FileSink, MemorySink
from minidumper.ranges import MemoryRange

PAGE = 0x1000
PAGES = 64


def walk(handler: PlanHandler, regions: list[MemoryRange]) -> list[MemoryRange]:
    """Asks as dbghelp does: each region, and from the end of a piece again."""
    pieces = []
    for start, end in regions:
        while start < end:
            answer = MINIDUMP_CALLBACK_OUTPUT()
            answer.VmRegion.BaseAddress, answer.VmRegion.RegionSize = start, end - start
            call = MINIDUMP_CALLBACK_INPUT(
                CallbackType=MINIDUMP_CALLBACK_TYPE.IncludeVmRegionCallback
            )
            assert handler.handle(call, answer)
            assert answer.Continue
            if not answer.VmRegion.RegionSize:
                break
            base = answer.VmRegion.BaseAddress
            assert start <= base < base + answer.VmRegion.RegionSize <= end
            start = base + answer.VmRegion.RegionSize
            pieces.append(MemoryRange(base, start))
    return pieces


def ranges(numbers: set[int]) -> list[MemoryRange]:
    """Runs of page numbers as ranges above 4 GB."""
    out: list[MemoryRange] = []
    for number in sorted(numbers):
        start = (1 << 32) + number * PAGE
        if out and out[-1].end == start:
            out[-1] = MemoryRange(out[-1].start, start + PAGE)
        else:
            out.append(MemoryRange(start, start + PAGE))
    return out


@given(st.sets(st.integers(0, PAGES - 1)), st.sets(st.integers(0, PAGES - 1)))
def test_dbghelp_is_given_the_plan_and_nothing_else(wanted: set[int], mapped: set[int]) -> None:
    handler = PlanHandler(ranges(wanted), MemorySink(PAGE))
    for _ in range(2):
        pieces = walk(handler, ranges(mapped))
        covered = {
            (address - (1 << 32)) // PAGE
            for start, end in pieces
            for address in range(start, end, PAGE)
        }
        assert covered == wanted & mapped
        assert sum(piece.size for piece in pieces) == len(covered) * PAGE


def test_the_bytes_of_the_file_are_taken() -> None:
    sink = MemorySink(PAGE)
    done: list[int] = []
    handler = PlanHandler([], sink, done.append)
    answer = MINIDUMP_CALLBACK_OUTPUT()
    call = MINIDUMP_CALLBACK_INPUT(CallbackType=MINIDUMP_CALLBACK_TYPE.IoStartCallback)
    assert handler.handle(call, answer)
    assert answer.Status == S_FALSE
    for part in (b"some bytes", b"SOME"):
        buffer = ctypes.create_string_buffer(part, len(part))
        call = MINIDUMP_CALLBACK_INPUT(CallbackType=MINIDUMP_CALLBACK_TYPE.IoWriteAllCallback)
        call.Io.Offset, call.Io.Buffer = 0, ctypes.addressof(buffer)
        call.Io.BufferBytes = len(part)
        assert handler.handle(call, answer)
        assert answer.Status == 0
    assert done == [10, 10]
    assert sink.reader().read() == b"SOME bytes"


def test_a_file_takes_bytes_at_any_offset(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as file:
        sink = FileSink(file.fileno())
        for offset, text in ((4, b"5678"), (0, b"1234"), (8, b"9")):
            sink.put(offset, memoryview(text))
        assert sink.size == 9
        with sink.reader() as reader:
            reader.seek(0)
            assert reader.read() == b"123456789"
        sink.put(0, memoryview(b"x"))
        assert (tmp_path / "file").read_bytes() == b"x23456789"
        sink.clear()
        assert (tmp_path / "file").read_bytes() == b""


def test_memory_is_read_like_the_target(tmp_path: Path) -> None:
    sink = MemorySink(64)
    sink.put(16, memoryview(b"0123456789"))
    sink.segments = [MemorySegment(0x1000, 0x1008, 16), MemorySegment(0x2000, 0x2002, 24)]
    buffer = bytearray(8)
    assert sink.read_into(0x1002, memoryview(buffer)) == 6
    assert buffer[:6] == b"234567"
    assert sink.read_into(0x2001, memoryview(buffer)) == 1
    assert sink.read_into(0x3000, memoryview(buffer)) == 0
    with open(tmp_path / "file", "w+b") as file:
        done: list[int] = []
        sink.write(FileSink(file.fileno()), done.append)
        assert done == [26]
    assert (tmp_path / "file").read_bytes() == bytes(16) + b"0123456789"
    sink.close()


def test_memory_ends_where_it_was_foreseen() -> None:
    sink = MemorySink(8)
    with pytest.raises(CaptureError, match="more than the 8 bytes"):
        sink.put(4, memoryview(b"12345"))
    sink.close()
