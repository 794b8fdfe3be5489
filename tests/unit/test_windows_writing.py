"""The parts of the Windows writer that need no Windows: answers to dbghelp, and sinks."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable, Iterator
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
from minidumper.formats.minidump import (
    DIRECTORY,
    HEADER,
    MAGIC,
    MEMORY64,
    MEMORY64_LIST,
    OWN_STREAM,
    VERSION,
    WITH_FULL_MEMORY,
    MemorySegment,
)
from minidumper.platforms.windows.forward import ForwardSink
from minidumper.platforms.windows.planhandler import PlanHandler
from minidumper.platforms.windows.sinks import FileSink, MemorySink
from minidumper.ranges import MemoryRange

PAGE = 0x1000
PAGES = 64


class Room:
    """Memory for a sink."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))

    def close(self) -> None:
        self.view.release()


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
    handler = PlanHandler(ranges(wanted), MemorySink(Room(PAGE)))
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
    sink = MemorySink(Room(PAGE))
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
    with sink.reader() as reader:
        assert reader.read() == b"SOME bytes"


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
    sink = MemorySink(Room(64))
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
    sink = MemorySink(Room(8))
    with pytest.raises(CaptureError, match="more than the 8 bytes"):
        sink.put(4, memoryview(b"12345"))
    sink.close()


WANTED = [MemoryRange(1 << 40, (1 << 40) + 3 * PAGE), MemoryRange(2 << 40, (2 << 40) + PAGE)]
OWN = b'{"mode": "heap"}'.ljust(2000)


def file_of(ranges: list[MemoryRange]) -> bytes:
    """A minidump as dbghelp lays it out: the list of memory is the last stream."""
    own = HEADER.size + 2 * DIRECTORY.size
    start = own + len(OWN)
    base = start + MEMORY64.size * (1 + len(ranges))
    return b"".join(
        [
            HEADER.pack(MAGIC, VERSION, 2, HEADER.size, 0, 0, WITH_FULL_MEMORY),
            DIRECTORY.pack(OWN_STREAM, len(OWN), own),
            DIRECTORY.pack(MEMORY64_LIST, base - start, start),
            OWN,
            MEMORY64.pack(len(ranges), base),
            *(MEMORY64.pack(part.start, part.size) for part in ranges),
            *(bytes([index + 1]) * part.size for index, part in enumerate(ranges)),
        ]
    )


def as_dbghelp_writes(file: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """The writes of a file with so many bytes of memory: the directory and the list's head last."""
    base = len(file) - size
    directory = range(HEADER.size, HEADER.size + 2 * DIRECTORY.size, DIRECTORY.size)
    start = directory.stop + len(OWN)
    yield 0, file[: HEADER.size]
    yield directory.stop, file[directory.stop : start]
    for at in range(start + MEMORY64.size, base, MEMORY64.size):
        yield at, file[at : at + MEMORY64.size]
    for at in range(base, len(file), PAGE):
        yield at, file[at : at + PAGE]
    yield start, file[start : start + MEMORY64.size]
    for row in directory:
        yield row, file[row : row + DIRECTORY.size]


class Pipe:
    """Takes bytes in order alone."""

    def __init__(self) -> None:
        self.content = b""

    def put(self, offset: int, data: memoryview) -> None:
        assert offset == len(self.content)
        self.content += data


def forwarded(writes: Iterable[tuple[int, bytes]], pipe: Pipe) -> ForwardSink:
    sink = ForwardSink(pipe.put)
    sink.expect(file_of([]), WANTED)
    for offset, data in writes:
        sink.put(offset, memoryview(data))
    return sink


@pytest.mark.parametrize("ranges", [WANTED, [*WANTED, MemoryRange(3 << 40, (3 << 40) + PAGE)]])
def test_a_dump_goes_forward_alone(ranges: list[MemoryRange]) -> None:
    file = file_of(ranges)
    size = sum(part.size for part in ranges)
    pipe = Pipe()
    sink = forwarded(as_dbghelp_writes(file, size), pipe)
    sink.finish()
    assert pipe.content == file
    assert sink.size == len(file)


def test_without_all_memory_nothing_goes_forward() -> None:
    pipe = Pipe()
    part = file_of(WANTED[:1])
    writes = as_dbghelp_writes(part, WANTED[0].size)
    sink = forwarded(itertools.takewhile(lambda write: len(write[1]) != PAGE, writes), pipe)
    with pytest.raises(CaptureError, match="left out 4096 bytes in 1 ranges, the first 0x200"):
        sink.put(len(part) - WANTED[0].size, memoryview(bytes(PAGE)))
    assert not sink.begun
    assert pipe.content == b""
    sink.clear()
    sink.put(0, memoryview(b"ours"))
    sink.put(4, memoryview(b", in order"))
    assert pipe.content == b"ours, in order"


def test_what_dbghelp_does_not_keep_to_is_an_error() -> None:
    *writes, last = as_dbghelp_writes(file_of(WANTED), 4 * PAGE)
    sink = forwarded(writes, Pipe())
    with pytest.raises(CaptureError, match="changed what was passed on"):
        sink.put(last[0], memoryview(bytes(len(last[1]))))
    assert sink.begun
    memory = [offset for offset, data in writes if len(data) == PAGE]
    sink = forwarded([w for w in writes if w[0] != memory[-1]], Pipe())
    with pytest.raises(CaptureError, match="left out 4096 bytes"):
        sink.finish()
