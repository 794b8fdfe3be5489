"""What every Target promises, held against a process, its snapshot and its dumps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import gates

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.dumpfile import open_dump
from minidumper.errors import MemoryFaultError
from minidumper.platforms.linux.process import LinuxProcess
from minidumper.platforms.linux.snapshot import prepare_snapshot, take_snapshot
from minidumper.ranges import MemoryRange, page_floor
from minidumper.target import Target
from tests.support.subject import HEAP_STRING, MESSAGE, PAGES, Subject, subject, write_core

pytestmark = pytest.mark.gate("gcc", "ptrace")

NOWHERE = 0x1000
"""Below vm.mmap_min_addr: never mapped."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subject(tmp_path_factory.mktemp("subject")) as program:
        yield program


@contextmanager
def opened(kind: str, program: Subject, folder: Path) -> Iterator[Target]:
    """The subject as a target of one kind."""
    if kind == "process":
        with LinuxProcess(program.pid) as process:
            yield process
        return
    if kind == "snapshot":
        with LinuxProcess(program.pid) as process:
            gadgets = prepare_snapshot(process)
            with process.stopped():
                snapshot = take_snapshot(process, gadgets)
            with snapshot:
                yield snapshot
        return
    path = folder / f"core.{program.pid}"
    if kind == "core":
        with LinuxProcess(program.pid) as process, process.stopped():
            write_core(process, path)
    else:
        command = ["gcore", "-o", str(folder / "core"), str(program.pid)]
        subprocess.run(command, check=True, capture_output=True)
    with open_dump(path) as dump:
        yield dump


@pytest.fixture(
    scope="module",
    params=["process", "snapshot", "core", pytest.param("gcore", marks=pytest.mark.gate("gdb"))],
)
def target(
    request: pytest.FixtureRequest, program: Subject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    with opened(request.param, program, tmp_path_factory.mktemp("dump")) as target:
        yield target


def test_identity(target: Target, program: Subject) -> None:
    assert target.pid == program.pid
    assert target.name == "core_subject"


def test_memory_is_that_of_the_process(target: Target, program: Subject) -> None:
    assert target.memory.read(program.message, len(MESSAGE)) == MESSAGE
    assert target.memory.read(program.heap, len(HEAP_STRING)) == HEAP_STRING
    assert target.memory.read(program.sparse, PAGES * 4096) == program.sparse_bytes()


def test_absent_memory_is_a_fault(target: Target) -> None:
    for address in (NOWHERE, 2**64 - 4096):
        with pytest.raises(MemoryFaultError) as caught:
            target.memory.read(address, 16)
        assert (caught.value.address, caught.value.size) == (address, 16)
        assert target.memory.read_into(address, memoryview(bytearray(16))) == 0


def test_read_into_stops_at_the_first_gap(target: Target) -> None:
    regions = target.regions()
    last = next(a for a, b in pairwise(regions) if a.end < b.start and a.protection == "rw-p")
    buffer = bytearray(8192)
    assert target.memory.read_into(last.end - 4096, memoryview(buffer)) == 4096
    assert buffer[:4096] == target.memory.read(last.end - 4096, 4096)
    assert not any(buffer[4096:])
    with pytest.raises(MemoryFaultError):
        target.memory.read(last.end - 4096, 8192)


def test_memory_source_leads_to_the_same_bytes(target: Target, program: Subject) -> None:
    source = target.memory_source()
    assert not source.is_process
    rows = source.table or [(0, 2**47, 0)]
    (row,) = [row for row in rows if row[0] <= program.message < row[1]]
    at = row[2] + program.message - row[0]
    assert os.pread(source.descriptor, len(MESSAGE), at) == MESSAGE


def test_regions_are_sorted_and_disjoint(target: Target, program: Subject) -> None:
    regions = target.regions()
    assert all(region.start < region.end for region in regions)
    assert all(a.end <= b.start for a, b in pairwise(regions))
    (data,) = [r for r in regions if r.start <= program.message < r.end]
    assert (data.protection, data.path, data.is_file) == ("rw-p", str(program.path), True)
    (sparse,) = [r for r in regions if r.start <= program.sparse < r.end]
    assert (sparse.protection, sparse.path, sparse.is_file) == ("rw-p", "", False)
    assert sparse.private_anonymous


def test_threads(target: Target, program: Subject) -> None:
    for _ in range(2):
        with target.stopped():
            threads = target.threads()
            regions = target.regions()
    assert threads[0].tid == program.pid
    assert [t.tid for t in threads] == sorted(
        int(t) for t in os.listdir(f"/proc/{program.pid}/task")
    )
    for thread in threads:
        assert len(thread.context) == 0x4D0
        assert int.from_bytes(thread.context[0xF8:0x100], "little") == thread.ip
        assert int.from_bytes(thread.context[0x98:0xA0], "little") == thread.sp
        assert {1: 216, 2: 512}.items() <= {k: len(v) for k, v in thread.regsets.items()}.items()
        assert any(r.start <= thread.sp < r.end for r in regions if r.protection == "rw-p")
        assert thread.signal == 0


def test_modules(target: Target, program: Subject) -> None:
    modules = target.modules()
    assert [m.base for m in modules] == sorted(m.base for m in modules)
    assert len({m.path for m in modules}) == len(modules)
    (own,) = [m for m in modules if m.path == str(program.path)]
    assert own.base <= program.code < own.end
    assert any("/libc.so" in m.path for m in modules)


def test_what_is_not_resident_is_zero(target: Target, program: Subject) -> None:
    span = MemoryRange(program.sparse, program.sparse + PAGES * 4096)
    found = target.resident(target.regions(), span)
    assert all(a.end < b.start for a, b in pairwise(found))
    content = bytearray(PAGES * 4096)
    for start, end in found:
        assert span.start <= start < end <= span.end
        at = start - span.start
        content[at : at + end - start] = target.memory.read(start, end - start)
    assert content == program.sparse_bytes()


def test_what_holds_data_is_resident(target: Target, program: Subject) -> None:
    for address in (program.message, program.heap):
        page = MemoryRange(page_floor(address), page_floor(address) + 4096)
        assert list(target.resident(target.regions(), page)) == [page]


def test_modified_pages_lie_inside_their_region(target: Target) -> None:
    for region in target.regions():
        if region.is_file:
            for page in target.modified_pages(region):
                assert region.start <= page.start < page.end <= region.end


def test_a_dump_has_the_registers_of_the_stop_it_was_taken_in(
    program: Subject, tmp_path: Path
) -> None:
    with LinuxProcess(program.pid) as process, process.stopped():
        live = process.threads()
        write_core(process, tmp_path / "core")
    with open_dump(tmp_path / "core") as dump:
        # A core has no thread names.
        assert dump.threads() == [replace(thread, name="") for thread in live]
