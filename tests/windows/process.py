"""A live Windows process as a Target: what it promises, held against a .NET process."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from minidumper import platforms
from minidumper.errors import (
    AccessDeniedError,
    AlreadyTracedError,
    BitnessMismatchError,
    MemoryFaultError,
    NativeCallError,
    TargetExitedError,
    TargetNotFoundError,
)
from minidumper.platforms.windows import process as module
from minidumper.platforms.windows import win32
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.ranges import MemoryRange
from minidumper.target import VmRegion
from tests.support.targets import Running

from .programs import python, running

NOWHERE = 0x1000
"""Below lpMinimumApplicationAddress: never mapped."""


@pytest.fixture(scope="module")
def program() -> Iterator[Running]:
    """One that no other file runs, as names are looked for."""
    with running("Clock") as program:
        yield program


@pytest.fixture(scope="module")
def target(program: Running) -> Iterator[WindowsProcess]:
    with WindowsProcess(program.process.pid) as target:
        yield target


def holding(regions: list[VmRegion], address: int) -> VmRegion:
    (found,) = [region for region in regions if region.start <= address < region.end]
    return found


def test_it_is_named_after_the_dll_that_dotnet_runs(target: WindowsProcess) -> None:
    assert target.name == "Clock"
    assert target.arguments()[2].endswith("Clock.dll")


@pytest.mark.parametrize("name", ["Clock", "clock.dll", "Clo*"])
def test_it_is_found_by_name(program: Running, name: str) -> None:
    with platforms.open_target(name) as found:
        assert found.pid == program.process.pid


def test_memory_is_that_of_the_process(target: WindowsProcess) -> None:
    (runtime,) = [m for m in target.modules() if m.path.endswith("coreclr.dll")]
    assert target.memory.read(runtime.base, 512)[:64] == Path(runtime.path).read_bytes()[:64]


def test_absent_memory_is_a_fault(target: WindowsProcess) -> None:
    for address in (NOWHERE, 2**64 - 4096):
        with pytest.raises(MemoryFaultError) as caught:
            target.memory.read(address, 16)
        assert (caught.value.address, caught.value.size) == (address, 16)
        assert target.memory.read_into(address, memoryview(bytearray(16))) == 0


def test_read_into_stops_at_the_first_gap(target: WindowsProcess) -> None:
    # Behind an image, because Wine reads what it keeps behind private memory.
    *_, last = (r for r in target.regions() if r.path.endswith("ntdll.dll"))
    buffer = bytearray(8192)
    assert target.memory.read_into(last.end - 4096, memoryview(buffer)) == 4096
    assert buffer[:4096] == target.memory.read(last.end - 4096, 4096)
    assert not any(buffer[4096:])


def test_read_into_goes_on_over_a_change_of_protection(target: WindowsProcess) -> None:
    first, second = next(
        (a, b)
        for a, b in pairwise(target.regions())
        if a.readable and b.readable and a.end == b.start and a.protection != b.protection
    )
    data = target.memory.read(first.end - 4096, 8192)
    assert data[:4096] == target.memory.read(first.end - 4096, 4096)
    assert data[4096:] == target.memory.read(second.start, 4096)


def test_memory_source_is_a_handle_that_children_inherit(target: WindowsProcess) -> None:
    source = target.memory_source()
    assert source.is_process
    inheritable = vars(os)["get_handle_inheritable"]  # of Windows alone
    assert inheritable(source.descriptor)


def test_regions_are_sorted_and_disjoint(target: WindowsProcess) -> None:
    regions = target.regions()
    assert all(region.start < region.end for region in regions)
    assert all(a.end <= b.start for a, b in pairwise(regions))


def test_regions_tell_images_from_private_memory(target: WindowsProcess) -> None:
    regions = target.regions()
    (runtime,) = [m for m in target.modules() if m.path.endswith("coreclr.dll")]
    header = holding(regions, runtime.base)
    assert (header.protection, header.offset, header.is_file) == ("r--p", 0, True)
    assert header.path.endswith("coreclr.dll")
    code = holding(regions, runtime.base + 0x1000)
    assert (code.protection, code.offset) == ("r-xp", 0x1000)
    private = [r for r in regions if r.private_anonymous and r.protection == "rw-p"]
    assert sum(region.size for region in private) > 10 << 20  # the GC heap


def test_threads(target: WindowsProcess) -> None:
    for _ in range(2):
        with target.stopped():
            threads = target.threads()
            regions = target.regions()
    assert ".NET Finalizer" in {thread.name for thread in threads}
    for thread in threads:
        assert len(thread.context) == 0x4D0
        assert struct.unpack_from("<Q", thread.context, 0xF8) == (thread.ip,)
        assert struct.unpack_from("<Q", thread.context, 0x98) == (thread.sp,)
        assert holding(regions, thread.sp).protection == "rw-p"
        # NT_TIB.Self of winnt.h: the block's own address.
        assert target.memory.read(thread.teb + 0x30, 8) == thread.teb.to_bytes(8, "little")


def test_threads_need_the_stop(target: WindowsProcess) -> None:
    with pytest.raises(RuntimeError):
        target.threads()


def test_modules(target: WindowsProcess) -> None:
    modules = target.modules()
    assert [m.base for m in modules] == sorted(m.base for m in modules)
    assert len({m.path for m in modules}) == len(modules)
    (runtime,) = [m for m in modules if m.path.endswith("coreclr.dll")]
    file = Path(runtime.path).read_bytes()
    (header,) = struct.unpack_from("<I", file, 0x3C)
    (timestamp,) = struct.unpack_from("<I", file, header + 8)
    assert runtime.build_id == f"{timestamp:08X}{runtime.end - runtime.base:x}"
    assert runtime.version.startswith("10.0.14")


def test_all_that_is_readable_is_resident(target: WindowsProcess) -> None:
    regions = target.regions()
    whole = MemoryRange(regions[0].start, regions[-1].end)
    found = target.resident(regions, whole)
    assert sum(run.size for run in found) == sum(r.size for r in regions if r.readable)
    inside = holding(regions, found[0].start)
    part = MemoryRange(inside.start, inside.start + 4096)
    assert target.resident(regions, part) == [part]


def test_a_stop_holds_all_threads_and_lets_them_go(
    program: Running, target: WindowsProcess
) -> None:
    program.start_clock()
    with target.stopped():
        began = time.perf_counter()
        for region in target.regions():
            if region.readable:
                target.memory.read(region.start, region.size)
        held_ms = (time.perf_counter() - began) * 1000
    assert program.gap_ms() >= held_ms > 1
    assert program.alive()


def test_a_process_is_debugged_by_one_alone(target: WindowsProcess) -> None:
    with (
        target.stopped(),
        WindowsProcess(target.pid) as second,
        pytest.raises(AlreadyTracedError),
        second.stopped(),
    ):
        pass


def test_there_is_no_such_process() -> None:
    with pytest.raises(TargetNotFoundError) as caught:
        WindowsProcess(0xFFFF_FFF0)
    assert caught.value.hint


def test_a_process_that_ended_cannot_be_stopped() -> None:
    with python("input()") as child, WindowsProcess(child.pid) as target:
        child.kill()
        child.wait()
        with pytest.raises(TargetExitedError), target.stopped():
            pass


def test_another_pointer_size_is_refused(program: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_emulated", lambda handle: True)
    with pytest.raises(BitnessMismatchError, match="is 32-bit and this Python is 64-bit"):
        WindowsProcess(program.process.pid)


@pytest.mark.parametrize(("privileged", "gate"), [(False, "user"), (True, "protected")])
def test_a_closed_process_names_its_gate(
    program: Running, monkeypatch: pytest.MonkeyPatch, privileged: bool, gate: str
) -> None:
    def refuse(*_: object) -> int:
        raise NativeCallError("OpenProcess", win32.ERROR_ACCESS_DENIED)

    monkeypatch.setattr(win32, "OpenProcess", refuse)
    monkeypatch.setattr(module, "enable_debug_privilege", lambda: privileged)
    with pytest.raises(AccessDeniedError) as caught:
        WindowsProcess(program.process.pid)
    assert (caught.value.gate, bool(caught.value.hint)) == (gate, True)


def test_our_death_in_a_stop_lets_the_process_go(program: Running) -> None:
    code = """
import sys
from minidumper.platforms.windows.process import WindowsProcess
with WindowsProcess(int(sys.argv[1])) as target, target.stopped():
    print("held", flush=True)
    sys.stdin.read()
"""
    with python(code, str(program.process.pid)) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        assert program.alive()
