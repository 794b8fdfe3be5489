"""Dumps through MiniDumpWriteDump and without it, read by `minidump` and held against the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import pytest

from minidumper.errors import (
    CaptureError,
)
from minidumper.formats.minidump import ExceptionInfo, MinidumpStreams
from minidumper.formats.minidump_reader import read_minidump
from minidumper.formats.minidump_writer import MinidumpLayout, layout
from minidumper.plan import DumpPlan
from minidumper.platforms.options import DumpOptions
from minidumper.platforms.windows import capture, dbghelp, process
from minidumper.platforms.windows.backend import WindowsBackend
from minidumper.platforms.windows.debugging import Hold
from minidumper.platforms.windows.planhandler import PlanHandler
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.platforms.windows.sinks import MemorySink, Sink
from minidumper.ranges import MemoryRange
from minidumper.writer import DumpWriter, write_dump
from tests.support.targets import Running

from .plans import (
    OWN,
    full_plan,
    opened,
    own_stream,
    planned,
    prepared,
    segments,
    sparse_plan,
)


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

    def __init__(self, ranges: Sequence[MemoryRange], sink: Sink, *_: object, **__: object) -> None:
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
