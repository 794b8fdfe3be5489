"""Dumps of one stop, as others read them: ClrMD by the Oracle, the debugger engine, `minidump`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from minidump.minidumpfile import MinidumpFile

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.plan import DumpMode
from minidumper.platforms.options import DumpOptions
from minidumper.report import CaptureReport, Way
from minidumper.stripping import strip
from tests.support import oracle

from . import dbgeng
from .clones import clones
from .programs import running, sections

NATIVE_MB = 100
THREADS = 3


class Dumps(NamedTuple):
    """Those of one stop, and the threads that it held."""

    minimal: CaptureReport
    heap: CaptureReport
    full: CaptureReport
    async_heap: CaptureReport
    native_heap: CaptureReport
    snapshot_heap: CaptureReport


@pytest.fixture(scope="module")
def engine() -> None:
    """What it starts stays."""
    dbgeng.load()


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Dumps:
    folder = tmp_path_factory.mktemp("dumps")
    modes = [DumpMode.MINIMAL, DumpMode.HEAP, DumpMode.FULL]
    with (
        running("GcHeap", "--native", str(NATIVE_MB), "--threads", str(THREADS)) as program,
        platforms.open_target(program.process.pid) as target,
    ):
        with Capture(target, modes) as capture:
            reports = capture.write([str(folder / f"{mode.value}.dmp") for mode in modes])
        with Capture(target, [DumpMode.HEAP]) as capture:
            (copied,) = capture.write([str(folder / "async.dmp")], async_copy=True)
            vars(target)["options"] = DumpOptions(writer="native")
            (native,) = capture.write([str(folder / "native.dmp")])
            with clones():
                (cloned,) = capture.write([str(folder / "snapshot.dmp")], async_copy=True)
        assert program.alive()
    assert cloned.way is Way.SNAPSHOT
    minimal, heap, full = reports
    return Dumps(minimal, heap, full, copied, native, cloned)


def test_a_heap_dump_reads_as_the_full_dump(dumps: Dumps) -> None:
    expected, found = sections(dumps.full.path), sections(dumps.heap.path)
    assert oracle.differences(expected, found) == {}
    assert found["nameless-types"] == []
    assert all(found[name] for name in ("segments", "objects", "stacks", "threads"))
    assert dumps.heap.warnings == ()


def test_a_full_dump_stripped_reads_as_before(dumps: Dumps, tmp_path: Path) -> None:
    small = strip(dumps.full.path, str(tmp_path / "small.dmp"))
    assert small.disk_size < dumps.full.disk_size - NATIVE_MB * 2**20
    assert oracle.differences(sections(dumps.full.path), sections(small.path)) == {}
    assert small.warnings == ()


def test_a_minimal_dump_has_the_stacks_of_the_full_dump(dumps: Dumps) -> None:
    names = ("threads", "stacks")
    assert sections(dumps.minimal.path, *names) == sections(dumps.full.path, *names)


@pytest.mark.parametrize("kind", ["async_heap", "native_heap", "snapshot_heap"])
def test_every_writer_makes_a_heap_dump_that_can_be_walked(dumps: Dumps, kind: str) -> None:
    found = sections(getattr(dumps, kind).path, "nameless-types", "objects", "stacks")
    assert found["nameless-types"] == []
    assert found["objects"]
    assert found["stacks"]


def test_a_heap_dump_is_as_large_as_the_heap(dumps: Dumps) -> None:
    in_use = dumps.heap.clr["gc_bytes"]
    assert isinstance(in_use, int)
    assert in_use < dumps.heap.disk_size < in_use + 20e6
    assert dumps.full.disk_size > dumps.heap.disk_size + NATIVE_MB * 2**20
    assert dumps.minimal.disk_size < 15e6


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", Dumps._fields)
def test_the_debugger_engine_opens_it(dumps: Dumps, kind: str, tmp_path: Path) -> None:
    report: CaptureReport = getattr(dumps, kind)
    with dbgeng.opened(Path(report.path), tmp_path / "log.txt") as debugger:
        version = debugger.run("version")
        assert "Full memory user mini dump" in version
        assert "Free x64" in version
        process = debugger.run("|")
        assert f"id: {report.pid:x}\t" in process
        threads = debugger.run("~")
        names = [".NET Finalizer", *(f"worker {index}" for index in range(THREADS))]
        assert all(f'"{name}"' in threads for name in names), threads
        modules = debugger.run("lm")
        assert all(name in modules for name in ("coreclr", "GcHeap", "ntdll")), modules
        assert "00905a4d" in debugger.run("dd coreclr L1")  # MZ
        assert "????????" not in debugger.run("dq @rsp L8")
        assert "Unable" not in debugger.run("~*r")


@pytest.mark.parametrize("kind", Dumps._fields)
def test_an_outside_parser_reads_it(dumps: Dumps, kind: str) -> None:
    report: CaptureReport = getattr(dumps, kind)
    dump = MinidumpFile.parse(report.path)
    try:
        memory = dump.memory_segments_64.memory_segments
        size = sum(s.end_virtual_address - s.start_virtual_address for s in memory)
        assert report.size - (1 << 20) < size < report.size
        assert len(dump.threads.threads) >= THREADS + 3
        assert dump.misc_info.ProcessId == report.pid
    finally:
        dump.file_handle.close()
