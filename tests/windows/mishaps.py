"""Dumps that a callback changes or ends, or the disk, the target, or our own end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minidumper.dbghelp import (
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_TYPE,
    CallbackHandler,
    wide_string,
)
from minidumper.errors import (
    MemoryFaultError,
    NativeCallError,
    OutputError,
    TargetExitedError,
)
from minidumper.platforms.windows import memoryapi
from minidumper.platforms.windows.backend import WindowsBackend
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.writer import DumpWriter, write_dump
from tests.support.targets import Running

from .plans import opened, segments
from .programs import python, running


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
