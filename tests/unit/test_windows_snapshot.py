"""--async on a Windows with PssCaptureSnapshot, against functions that stand in for the system's.

Wine has none, so what is shown is the order of the calls, and what becomes of the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import addressof, create_string_buffer
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minidumper import capture, platforms
from minidumper.capture import Capture
from minidumper.dbghelp import (
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_TYPE,
    S_FALSE,
    CallbackHandler,
)
from minidumper.errors import NativeCallError, OutputError
from minidumper.formats.minidump import MinidumpStreams, MiscInfo, SystemInfo
from minidumper.formats.minidump_reader import read_minidump
from minidumper.formats.minidump_writer import layout
from minidumper.plan import DumpMode, DumpPlan
from minidumper.platforms.options import DumpOptions
from minidumper.platforms.windows import backend, dbghelp, memory, snapshotapi, win32
from minidumper.platforms.windows import capture as windows_capture
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.platforms.windows.snapshot import WindowsSnapshot, uncloned
from minidumper.ranges import MemoryRange, Reason, ReasonedRange
from minidumper.report import Way
from minidumper.target import ModuleInfo, ThreadInfo, VmRegion

PAGE = 0x1000
PRIVATE = VmRegion(0x10000, 0x12000, "rw-p")
MAPPED = VmRegion(0x20000, 0x21000, "rwxs")  # of the page file, as the JIT's code is
LACKING = VmRegion(0x30000, 0x31000, "r--p")  # not in the clone
REGIONS = [PRIVATE, MAPPED, LACKING]
LIVE, OPENED, CLONE, SNAPSHOT = 0x11, 0x22, 0x33, 0x44  # handles


class Memory:
    """The same byte everywhere."""

    def __init__(self, value: bytes, *, fails: bool = False) -> None:
        self.value = value
        self.fails = fails

    def read_into(self, address: int, buffer: memoryview) -> int:
        if self.fails:
            raise OSError(5, "no bytes")
        buffer[:] = self.value * buffer.nbytes
        return buffer.nbytes

    def read(self, address: int, size: int) -> bytes:
        return self.value * size


class System:
    """What was called; the step `fails` does not work."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[str] = []
        self.fails = fails

    def step(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise NativeCallError(name, 5, detail="access denied")


class Process(WindowsProcess):
    """A process whose bytes change as soon as it runs again."""

    def __init__(self, system: System, writer: str) -> None:
        self.pid = 7
        self.handle = LIVE
        self.keeper = None
        self._hold = None
        self.copied = ()
        self.options = DumpOptions(writer=writer)
        self.warnings = []
        self.live = Memory(b"s", fails=system.fails == "read")
        self.memory = self.live
        self._system = system

    @property
    def name(self) -> str:
        return "app"

    @property
    def exited(self) -> bool:
        return False

    def arguments(self) -> list[str]:
        return []

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self._system.calls.append("hold")
        try:
            yield
        finally:
            self.live.value = b"x"
            self._system.calls.append("resume")

    def regions(self) -> list[VmRegion]:
        return REGIONS

    def threads(self) -> list[ThreadInfo]:
        return [ThreadInfo(9, 0, 0, bytes(0x4D0))]

    def modules(self) -> list[ModuleInfo]:
        return []

    def streams(
        self, threads: Sequence[ThreadInfo], regions: Sequence[VmRegion]
    ) -> MinidumpStreams:
        return MinidumpStreams(
            system=SystemInfo(architecture=9),
            misc=MiscInfo(pid=7),
            modules=[],
            threads=[],
            regions=[],
            own={},
        )


class Planner:
    """Plans all that can be read."""

    runtime = None
    thrown = 0

    def __init__(self, *_: object, **__: object) -> None: ...

    def close(self) -> None: ...

    def rehearse(self) -> None: ...

    def attach(self, target: object) -> None: ...

    def plan(self, mode: DumpMode, *_: object, **__: object) -> DumpPlan:
        return DumpPlan(
            mode, tuple(ReasonedRange(r.start, r.end, Reason.ALL_MEMORY) for r in REGIONS)
        )


class Output:
    """A file that has its name at once."""

    def __init__(self, path: str, *, fails: bool) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
        if fails:
            os.close(self.descriptor)
            self.descriptor = os.open(path, os.O_RDONLY)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def commit(self) -> int:
        return os.fstat(self.descriptor).st_size


class Room:
    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))

    def close(self) -> None:
        self.view.release()


@pytest.fixture
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> System:
    fake = System(getattr(request, "param", ""))

    class Backend(backend.WindowsBackend):
        def output(self, path: str, *, overwrite: bool) -> Any:
            return Output(path, fails=fake.fails == "write")

        free_space = staticmethod(lambda path: 1 << 40)
        output_error = staticmethod(
            lambda err, path: OutputError(str(err), stage="output", path=path)
        )

        def free_memory(self) -> tuple[int, str]:
            return 1 << 40, "this test"

    def open_process(access: int, inherits: bool, pid: int) -> int:
        assert (access, pid) == (snapshotapi.PROCESS_ALL_ACCESS, 7)
        return OPENED

    class Captures:
        exists = True

        def __call__(self, process: int, flags: int, contexts: int, found: Any) -> int:
            assert process == OPENED
            assert flags & snapshotapi.PSS_CAPTURE_VA_CLONE
            assert flags & snapshotapi.PSS_CAPTURE_THREAD_CONTEXT
            assert contexts == win32.CONTEXT_ALL[64]
            fake.step("capture")
            found._obj.value = SNAPSHOT
            return 0

    def query(snapshot: int, kind: int, found: Any, size: int) -> int:
        assert (snapshot, kind, size) == (SNAPSHOT, 1, 8)
        fake.step("query")
        found._obj.VaCloneHandle = CLONE
        return 0

    def free(process: int, snapshot: Any) -> int:
        assert (process, snapshot.value) == (-1, SNAPSHOT)
        fake.calls.append("free")
        return 0

    def regions(handle: int) -> Iterator[VmRegion]:
        assert handle == CLONE
        return iter([PRIVATE, MAPPED])

    captures = Captures()
    for module in (backend, snapshotapi):
        monkeypatch.setattr(module, "PssCaptureSnapshot", captures)
    monkeypatch.setattr(snapshotapi, "PssQuerySnapshot", query)
    monkeypatch.setattr(snapshotapi, "PssFreeSnapshot", free)
    monkeypatch.setattr(win32, "OpenProcess", open_process)
    monkeypatch.setattr(win32, "CloseHandle", lambda handle: fake.calls.append(f"close {handle:x}"))
    monkeypatch.setattr(win32, "GetCurrentProcess", lambda: -1)
    monkeypatch.setattr(memory, "regions", regions)
    monkeypatch.setattr(memory, "ProcessMemory", lambda pid, handle: Memory(b"c"))
    monkeypatch.setattr(windows_capture, "OwnMemory", Room)
    monkeypatch.setattr(capture, "Planner", Planner)
    monkeypatch.setattr(platforms, "backend", Backend)
    return fake


def dumped(process: Process, path: Path) -> Any:
    with Capture(process, [DumpMode.FULL]) as taking:
        (report,) = taking.write([str(path)], async_copy=True)
    return report


def contents(path: Path) -> Mapping[int, bytes]:
    """The bytes that each region is filled with."""
    with open(path, "rb") as file:
        dump = read_minidump(file)
        found = {}
        for start, end, offset in dump.segments:
            file.seek(offset)
            data = file.read(end - start)
            assert data == data[:1] * len(data)
            found[start] = data[:1]
    return found


AS_IN_THE_STOP = {PRIVATE.start: b"c", MAPPED.start: b"s", LACKING.start: b"s"}
TAKEN = ["hold", "capture", f"close {OPENED:x}", "query", "resume"]


def test_the_process_runs_while_the_file_is_written(system: System, tmp_path: Path) -> None:
    process = Process(system, "native")
    take = windows_capture.MinidumpImage.write

    def write(self: Any, *arguments: Any) -> None:
        system.calls.append("write")
        take(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_capture.MinidumpImage, "write", write)
        report = dumped(process, tmp_path / "dump")
    assert system.calls == [*TAKEN, "write", "free"]
    assert (report.way, report.warnings) == (Way.SNAPSHOT, ())
    assert contents(tmp_path / "dump") == AS_IN_THE_STOP


def by_handler(handler: CallbackHandler, streams: MinidumpStreams) -> None:
    """Write as dbghelp does, of the clone alone."""

    def put(offset: int, data: bytes) -> None:
        buffer = create_string_buffer(data, len(data))
        call = MINIDUMP_CALLBACK_INPUT(CallbackType=MINIDUMP_CALLBACK_TYPE.IoWriteAllCallback)
        call.Io.Offset, call.Io.Buffer = offset, addressof(buffer)
        call.Io.BufferBytes = len(data)
        assert handler.handle(call, MINIDUMP_CALLBACK_OUTPUT())

    plan = layout(streams, [MemoryRange(r.start, r.end) for r in REGIONS], timestamp=0, spare=4096)
    put(0, plan.header)
    for start, end, offset in plan.segments:
        put(offset, b"c" * (end - start))


def test_dbghelp_is_told_that_it_is_a_snapshot_and_what_is_shared_is_put_right(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(system, "dbghelp")

    def write_dump(
        library: str, handle: int, pid: int, flags: int, handler: CallbackHandler, **_: object
    ) -> None:
        assert (handle, pid) == (SNAPSHOT, 7)
        call = MINIDUMP_CALLBACK_INPUT(
            CallbackType=MINIDUMP_CALLBACK_TYPE.IsProcessSnapshotCallback
        )
        answer = MINIDUMP_CALLBACK_OUTPUT()
        assert handler.handle(call, answer)
        assert answer.Status == S_FALSE
        by_handler(handler, replace(process.streams([], []), own={"spare": " " * PAGE}))
        system.calls.append("write")

    monkeypatch.setattr(dbghelp, "write_dump", write_dump)
    report = dumped(process, tmp_path / "dump")
    assert system.calls == [*TAKEN, "write", "free"]
    assert (report.way, report.warnings) == (Way.SNAPSHOT, ())
    assert contents(tmp_path / "dump") == AS_IN_THE_STOP


@pytest.mark.parametrize(
    ("system", "calls"),
    [
        ("capture", ["hold", "capture", f"close {OPENED:x}", "resume"]),
        ("query", ["hold", "capture", f"close {OPENED:x}", "query", "free", "resume"]),
    ],
    indirect=["system"],
)
def test_where_none_can_be_had_the_memory_is_copied_in_the_same_stop(
    system: System, calls: list[str], tmp_path: Path
) -> None:
    report = dumped(Process(system, "native"), tmp_path / "dump")
    assert system.calls == calls
    assert report.way is Way.COPY
    assert "copied instead" in report.warnings[0].message
    assert set(contents(tmp_path / "dump").values()) == {b"s"}


@pytest.mark.parametrize(
    ("system", "calls"),
    [
        ("read", ["hold", "capture", f"close {OPENED:x}", "query", "free", "resume"]),
        ("write", [*TAKEN, "free"]),
    ],
    indirect=["system"],
)
def test_a_failure_frees_the_snapshot_and_lets_the_process_run(
    system: System, calls: list[str], tmp_path: Path
) -> None:
    with pytest.raises((OSError, OutputError)):
        dumped(Process(system, "native"), tmp_path / "dump")
    assert system.calls == calls


def test_a_worker_reads_the_clone_and_the_copies(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited = []
    monkeypatch.setattr(win32, "SetHandleInformation", lambda *words: inherited.append(words[0]))
    with WindowsSnapshot(Process(system, "native")) as taken:
        source = taken.memory_source()
        assert (source.descriptor, source.is_process, inherited) == (CLONE, True, [CLONE])
        assert source.copies
        assert [(start, end) for start, end, _ in source.copies.table] == [
            (MAPPED.start, MAPPED.end),
            (LACKING.start, LACKING.end),
        ]
        os.lseek(source.copies.descriptor, 0, os.SEEK_SET)
        assert os.read(source.copies.descriptor, 3 * PAGE) == b"s" * 2 * PAGE
        assert taken.memory.read(PRIVATE.end - 1, 1) + taken.memory.read(MAPPED.start, 1) == b"cs"


def test_without_the_function_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        exists = False

    monkeypatch.setattr(backend, "PssCaptureSnapshot", Absent())
    assert backend.WindowsBackend().prepare_snapshot(Process(System(), "native")) is None


@pytest.mark.parametrize(
    ("region", "copied"),
    [
        (VmRegion(0x1000, 0x2000, "rw-p"), False),
        (VmRegion(0x1000, 0x2000, "r-xp", path="C:\\app.dll"), False),
        (VmRegion(0x1000, 0x2000, "r--s"), True),
        (VmRegion(0x1000, 0x2000, "r--s", path="C:\\file"), False),
        (VmRegion(0x1000, 0x2000, "rw-s", path="C:\\file"), True),
        (VmRegion(0x1000, 0x2000, "---s"), False),
    ],
)
def test_what_a_clone_shares(region: VmRegion, copied: bool) -> None:
    whole = [MemoryRange(0x1000, 0x2000)]
    assert list(uncloned([region], [region])) == (whole if copied else [])
    assert list(uncloned([region], [])) == (whole if region.readable else [])
