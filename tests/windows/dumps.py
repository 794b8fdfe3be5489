"""Dumps through MiniDumpWriteDump and without it, read by `minidump` and held against the plan."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from minidump.minidumpfile import MinidumpFile

from minidumper.dbghelp import (
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_TYPE,
    CallbackHandler,
    wide_string,
)
from minidumper.errors import (
    CaptureError,
    MemoryFaultError,
    NativeCallError,
    OutputError,
    TargetExitedError,
)
from minidumper.formats.minidump import OWN_STREAM, ExceptionInfo, MinidumpStreams
from minidumper.formats.minidump_reader import read_minidump
from minidumper.formats.minidump_writer import MinidumpLayout, layout
from minidumper.plan import DumpMode, DumpPlan
from minidumper.platforms.options import DumpOptions
from minidumper.platforms.windows import capture, dbghelp, memoryapi, process
from minidumper.platforms.windows.backend import WindowsBackend
from minidumper.platforms.windows.capture import MinidumpImage
from minidumper.platforms.windows.debugging import Hold
from minidumper.platforms.windows.planhandler import PlanHandler
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.platforms.windows.sinks import MemorySink, Sink
from minidumper.ranges import MemoryRange, Reason, ReasonedRange, joined
from minidumper.writer import DumpWriter, write_dump
from tests.support.targets import Running

from .programs import python, running

Segments = list[tuple[int, int]]
OWN = {"mode": "test", "text": "wörd"}


@pytest.fixture(scope="module")
def program() -> Iterator[Running]:
    with running() as program:
        yield program
        assert program.alive()


@pytest.fixture
def target(program: Running) -> Iterator[WindowsProcess]:
    with WindowsProcess(program.process.pid) as target:
        yield target


def full_plan(target: WindowsProcess) -> DumpPlan:
    ranges = [
        ReasonedRange(region.start, region.end, Reason.ALL_MEMORY)
        for region in target.regions()
        if region.readable
    ]
    return DumpPlan(DumpMode.FULL, tuple(ranges))


def sparse_plan(target: WindowsProcess) -> DumpPlan:
    """Every other page of what is private, and the headers of all images."""
    ranges = []
    for region in target.regions():
        if region.private_anonymous and region.readable:
            pages = range(region.start, min(region.end, region.start + (4 << 20)), 8192)
            ranges += [ReasonedRange(page, page + 4096, Reason.DAC_READ) for page in pages]
        elif region.is_file and region.offset == 0:
            ranges.append(ReasonedRange(region.start, region.start + 4096, Reason.MODULE_HEADER))
    return DumpPlan(DumpMode.HEAP, tuple(ranges))


def prepared(target: WindowsProcess, plan: DumpPlan) -> MinidumpImage:
    return target.image(plan, target.regions(), target.threads(), runtime_base=0)


@contextmanager
def opened(path: Path) -> Iterator[MinidumpFile]:
    """The file as an outside reader has it; that one forgets to close it."""
    dump = MinidumpFile.parse(str(path))
    try:
        yield dump
    finally:
        dump.file_handle.close()


def segments(path: Path) -> Segments:
    """What the file holds: neighbours joined."""
    with opened(path) as dump:
        memory = dump.memory_segments_64.memory_segments
    return joined_pairs((s.start_virtual_address, s.end_virtual_address) for s in memory)


def joined_pairs(pairs: Iterator[tuple[int, int]]) -> Segments:
    return [(start, end) for start, end in joined((*pair, None) for pair in sorted(pairs))]


def planned(plan: DumpPlan) -> Segments:
    return joined_pairs((r.start, r.end) for r in plan.ranges)


def own_stream(path: Path) -> Any:
    with open(path, "rb") as file:
        (stream,) = [s for s in read_minidump(file).directory if s.type == OWN_STREAM]
        file.seek(stream.offset)
        return json.loads(file.read(stream.size))


@pytest.mark.parametrize("writer", ["dbghelp", "native"])
@pytest.mark.parametrize("plan_of", [full_plan, sparse_plan])
def test_the_file_holds_exactly_the_plan(
    target: WindowsProcess,
    tmp_path: Path,
    writer: str,
    plan_of: Callable[[WindowsProcess], DumpPlan],
) -> None:
    target.options = DumpOptions(writer=writer)
    path = tmp_path / "dump.dmp"
    with target.stopped(), WindowsBackend().output(str(path), overwrite=False) as output:
        threads = target.threads()
        plan = plan_of(target)
        image = prepared(target, plan)
        image.write(target.memory, output)
        image.seal(output, OWN)
        assert output.commit() >= plan.size
        live = [(start, target.memory.read(start, 64)) for start, _, _ in plan.ranges[::50]]
    assert image.warnings == []
    assert path.stat().st_size == image.file_size
    assert segments(path) == planned(plan)
    assert own_stream(path) == OWN
    with opened(path) as dump:
        reader = dump.get_reader()
        assert [reader.read(start, 64) for start, _ in live] == [data for _, data in live]
        assert {t.ThreadId for t in dump.threads.threads} == {t.tid for t in threads}
        names = [m.name.rpartition("\\")[2] for m in dump.modules.modules]
        assert "coreclr.dll" in names
    with open(path, "rb") as file:
        read = read_minidump(file).streams
    assert [t.context for t in read.threads] == [t.context for t in threads]
    assert [t.teb for t in read.threads] == [t.teb for t in threads]
    assert ".NET Finalizer" in {t.name for t in read.threads}


def test_a_copy_is_written_after_the_stop(
    program: Running, target: WindowsProcess, tmp_path: Path
) -> None:
    path = tmp_path / "dump.dmp"
    with target.stopped():
        plan = full_plan(target)
        image = prepared(target, plan)
        copy = image.copy(target.memory)
    assert program.ask("collect") == "collected"
    first = plan.ranges[0].start
    buffer = bytearray(64)
    assert copy.read_into(first, memoryview(buffer)) == 64
    assert copy.read_into(0x1000, memoryview(buffer)) == 0
    done: list[int] = []
    with WindowsBackend().output(str(path), overwrite=False) as output:
        image.write(copy, output, done.append)
        image.seal(output, OWN)
        output.commit()
    copy.close()
    assert done[-1] == path.stat().st_size
    assert segments(path) == planned(plan)
    with opened(path) as dump:
        assert dump.get_reader().read(first, 64) == buffer


class Pipe:
    """An output that goes forward alone."""

    descriptor = -1

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._file = open(path, "wb")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, offset: int, data: memoryview) -> None:
        assert offset == self._file.tell()
        self._file.write(data)

    def commit(self) -> int:
        return self._file.tell()


@pytest.mark.parametrize("way", ["dbghelp", "native", "copy", "fallback"])
def test_a_dump_goes_into_a_pipe(
    target: WindowsProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    target.options = DumpOptions(writer="native" if way == "native" else "")
    if way == "fallback":
        monkeypatch.setattr(capture, "PlanHandler", Forgetful)
    path = tmp_path / "dump.dmp"
    with target.stopped(), Pipe(path) as pipe:
        plan = sparse_plan(target)
        image = prepared(target, plan)
        source = image.copy(target.memory) if way == "copy" else target.memory
        image.write(source, pipe)
        image.seal(pipe, OWN)
        live = [(start, target.memory.read(start, 64)) for start, _, _ in plan.ranges[::50]]
        if isinstance(source, MemorySink):
            source.close()
    assert [warning.stage for warning in image.warnings] == ["dbghelp"] * (way == "fallback")
    assert segments(path) == planned(plan)
    assert own_stream(path)["mode"] == "heap"
    with opened(path) as dump:
        reader = dump.get_reader()
        assert [reader.read(start, 64) for start, _ in live] == [data for _, data in live]
        assert any(m.name.endswith("coreclr.dll") for m in dump.modules.modules)


class Forgetful(PlanHandler):
    """Loses the last range, as dbghelp does with ranges beyond its lists."""

    def __init__(self, ranges: Sequence[MemoryRange], sink: Sink, *_: object) -> None:
        super().__init__(ranges[:-1], sink)


def test_what_dbghelp_leaves_out_is_written_without_it(
    target: WindowsProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "PlanHandler", Forgetful)
    holds: list[Hold] = []

    def hold(pid: int, handle: int) -> Hold:
        holds.append(Hold(pid, handle))
        return holds[-1]

    monkeypatch.setattr(process, "Hold", hold)
    path = tmp_path / "dump.dmp"
    report = write_dump(target, "full", str(path))
    assert len(holds) == 1  # all in one stop
    (warning,) = report.warnings
    assert warning.stage == "dbghelp"
    assert "left out" in warning.message
    with open(path, "rb") as file:
        read = read_minidump(file)
    assert read.streams.own
    assert segments(path)[-1][1] == read.segments[-1].end


def test_what_nobody_can_write_is_an_error_with_the_ranges(
    target: WindowsProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(
        streams: MinidumpStreams, ranges: Sequence[MemoryRange], **words: int
    ) -> MinidumpLayout:
        return layout(streams, ranges[:-1], **words)

    monkeypatch.setattr(capture, "PlanHandler", Forgetful)
    monkeypatch.setattr(capture, "layout", forgetful)
    with pytest.raises(CaptureError, match=r"the dump lacks \d+ bytes in 1 ranges, the first 0x"):
        write_dump(target, "full", str(tmp_path / "dump.dmp"))
    assert list(tmp_path.iterdir()) == []


def test_without_dbghelp_the_dump_is_written_all_the_same(
    target: WindowsProcess, tmp_path: Path
) -> None:
    writer = DumpWriter("full", dbghelp=r"C:\nowhere\dbghelp.dll")
    report = writer.write(target, str(tmp_path / "dump.dmp"))
    assert "C:\\nowhere\\dbghelp.dll" in report.warnings[0].message


def test_dbghelp_is_never_searched_for() -> None:
    with pytest.raises(CaptureError, match="no full path"):
        dbghelp.write_dump("dbghelp.dll", 0, 0, 0, PlanHandler([], None))  # type: ignore[arg-type]


def test_an_exception_in_a_callback_reaches_the_caller(
    program: Running, target: WindowsProcess, tmp_path: Path
) -> None:
    def progress(done: int, total: int) -> None:
        if done > total // 2:
            raise Enough

    with pytest.raises(Enough):
        write_dump(target, "full", str(tmp_path / "dump.dmp"), progress=progress)
    assert list(tmp_path.iterdir()) == []
    assert program.alive()


@pytest.mark.parametrize("writer", ["dbghelp", "native"])
def test_a_comment_streams_and_an_exception(
    target: WindowsProcess, tmp_path: Path, writer: str
) -> None:
    path = tmp_path / "dump.dmp"
    with target.stopped(), WindowsBackend().output(str(path), overwrite=False) as output:
        thread = target.threads()[1]
        exception = ExceptionInfo(
            thread.tid, 0xE0434352, address=thread.ip, parameters=(1, 2), context=thread.context
        )
        target.options = DumpOptions(
            writer=writer,
            comment="Größe",
            user_streams={0x10001: b"user's own"},
            exception=exception,
        )
        image = prepared(target, sparse_plan(target))
        image.write(target.memory, output)
        image.seal(output, OWN)
        output.commit()
    assert image.warnings == []
    with opened(path) as dump:
        assert dump.comment_w.data.rstrip("\0") == "Größe"
        record = dump.exception.exception_records[0]
        assert record.ThreadId == thread.tid
        assert record.ExceptionRecord.ExceptionCode_raw == 0xE0434352
    with open(path, "rb") as file:
        streams = read_minidump(file).streams
    assert streams.user_streams == {0x10001: b"user's own"}
    assert streams.exception == exception


class Chooser(CallbackHandler):
    """Leaves out one module and notes what it is asked."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def handle(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        self.seen.add(call.CallbackType)
        return super().handle(call, answer)

    def module(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        if wide_string(call.Module.FullPath).endswith("GcHeap.dll"):
            answer.ModuleWriteFlags = 0
        return True

    def include_vm_region(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        if answer.VmRegion.Type == memoryapi.MEM_MAPPED:
            answer.VmRegion.RegionSize = 0
        return True


def test_a_callback_decides(target: WindowsProcess, tmp_path: Path) -> None:
    chooser = Chooser()
    path = tmp_path / "dump.dmp"
    DumpWriter("full", callback=chooser).write(target, str(path))
    with opened(path) as dump:
        names = [module.name for module in dump.modules.modules]
    assert not any(name.endswith("GcHeap.dll") for name in names)
    assert any(name.endswith("coreclr.dll") for name in names)
    held = segments(path)
    shared = [r for r in target.regions() if r.readable and r.protection.endswith("s")]
    assert shared
    assert not any(start < r.end and r.start < end for r in shared for start, end in held)
    types = MINIDUMP_CALLBACK_TYPE
    assert {types.ModuleCallback, types.ThreadCallback, types.IncludeVmRegionCallback} <= (
        chooser.seen
    )
    assert types.IoWriteAllCallback not in chooser.seen


class Enough(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("method", ["module", "include_vm_region"])
def test_what_a_callback_raises_reaches_the_caller(
    program: Running, target: WindowsProcess, tmp_path: Path, method: str
) -> None:
    def refuse(*_: object) -> bool:
        raise Enough

    handler = CallbackHandler()
    setattr(handler, method, refuse)
    writer = DumpWriter("full", callback=handler)
    with pytest.raises(Enough):
        writer.write(target, str(tmp_path / "dump.dmp"))
    assert list(tmp_path.iterdir()) == []
    assert program.alive()


class Canceller(CallbackHandler):
    """Ends the dump."""

    def cancel(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        answer.Cancel = True
        return True


def test_a_callback_cancels(program: Running, target: WindowsProcess, tmp_path: Path) -> None:
    writer = DumpWriter("full", callback=Canceller())
    with pytest.raises(NativeCallError) as caught:
        writer.write(target, str(tmp_path / "dump.dmp"))
    assert caught.value.code & 0xFFFFFFFF == 0x8007_04C7  # of ERROR_CANCELLED, winerror.h
    assert list(tmp_path.iterdir()) == []
    assert program.alive()


def test_progress_ends_with_all_memory(target: WindowsProcess, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = write_dump(
        target, "full", str(tmp_path / "dump.dmp"), progress=lambda *now: seen.append(now)
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] <= report.size


def test_an_existing_file_stays(target: WindowsProcess, tmp_path: Path) -> None:
    path = tmp_path / "dump.dmp"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_dump(target, "full", str(path))
    assert path.read_text() == "mine"
    write_dump(target, "full", str(path), overwrite=True)
    assert path.read_bytes()[:4] == b"MDMP"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_taken_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "dump.dmp"
    with WindowsBackend().output(str(path), overwrite=False) as output:
        path.write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            output.commit()
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        WindowsBackend().output(str(tmp_path / "no" / "dump.dmp"), overwrite=False)
    assert caught.value.hint


def test_our_death_while_writing_leaves_no_file_and_the_target(
    program: Running, tmp_path: Path
) -> None:
    code = """
import sys
from minidumper.writer import DumpWriter, write_dump
def progress(done, total):
    if done > 1 << 20:
        print("writing", flush=True)
        sys.stdin.read()
write_dump(int(sys.argv[1]), "full", sys.argv[2], progress=progress)
"""
    with python(code, str(program.process.pid), str(tmp_path / "dump.dmp")) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "writing\n"
        assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
        writer.kill()
        writer.wait()
        assert program.alive()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file_and_the_target(
    program: Running, target: WindowsProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 4 << 20

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal room
        room -= len(data)
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    real = os.write
    monkeypatch.setattr("minidumper.platforms.windows.sinks.os.write", write)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_dump(target, "full", str(tmp_path / "dump.dmp"))
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert program.alive()


@pytest.mark.parametrize("writer", ["dbghelp", "native"])
def test_a_target_that_ends_meanwhile_leaves_no_file(tmp_path: Path, writer: str) -> None:
    with running("GcHeap", "--native", "50") as program:

        def progress(done: int, total: int) -> None:
            if done < total // 2:
                program.process.kill()

        with WindowsProcess(program.process.pid) as target:
            dumps = DumpWriter("full", writer=writer, progress=progress)
            with pytest.raises((TargetExitedError, MemoryFaultError)):
                dumps.write(target, str(tmp_path / "dump.dmp"))
    assert list(tmp_path.iterdir()) == []
