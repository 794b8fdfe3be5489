"""What a dump holds and what it weighs, on real processes, judged by other programs."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from minidumper.plan import DumpMode
from minidumper.report import CaptureReport
from tests.support import gates, runtimes
from tests.support.commands import minidumper
from tests.support.dumps import MODES, dump
from tests.support.targets import Running, running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

OLD = pytest.mark.gate("old-runtimes")
VERSIONS = [
    "10.0.14",
    "9.0.22",
    pytest.param("8.0.4", marks=OLD),
    pytest.param("3.1.23", marks=OLD),
]
RUNTIME_SHARE = 20_000_000
"""Bytes that a heap dump of a console program may take beside its objects."""


@pytest.fixture(scope="module")
def app() -> Iterator[Running]:
    with running("GcHeap", args=["--threads", "20"]) as target:
        yield target


@pytest.fixture(scope="module")
def dumps(app: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[DumpMode, CaptureReport]:
    """A dump of each mode, of one stop."""
    folder = tmp_path_factory.mktemp("dumps")
    return dict(zip(MODES, dump(app.pid, folder), strict=True))


def gdb(path: str, command: str) -> str:
    """What gdb says of a core, with none of the program's files given."""
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", f"core-file {path}", "-ex", command],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def threads_of(pid: int) -> set[int]:
    return {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}


@pytest.mark.gate("gdb")
@pytest.mark.parametrize("mode", MODES)
def test_gdb_opens_every_mode(
    app: Running, dumps: dict[DumpMode, CaptureReport], mode: DumpMode
) -> None:
    path = dumps[mode].path
    listed = {int(tid) for tid in re.findall(r"LWP (\d+)", gdb(path, "info threads"))}
    assert listed >= threads_of(app.pid)
    mappings = gdb(path, "info proc mappings")
    assert str(runtimes.framework("10.0.14") / "libcoreclr.so") in mappings
    assert "System.Private.CoreLib.dll" in mappings
    assert re.search(r"^#0 +0x[0-9a-f]+ in", gdb(path, "bt"), re.MULTILINE)


@pytest.mark.parametrize("mode", MODES)
def test_pyelftools_parses_every_header(
    dumps: dict[DumpMode, CaptureReport], mode: DumpMode
) -> None:
    report = dumps[mode]
    with open(report.path, "rb") as file:
        core = ELFFile(file)
        assert core["e_type"] == "ET_CORE"
        notes = [item for item in core.iter_segments() if isinstance(item, NoteSegment)]
        kinds = {note["n_type"] for segment in notes for note in segment.iter_notes()}
        assert {"NT_PRPSINFO", "NT_AUXV", "NT_FILE", "NT_PRSTATUS", "NT_FPREGSET"} <= kinds
        loads = [segment for segment in core.iter_segments() if segment["p_type"] == "PT_LOAD"]
    assert len(loads) <= 8000
    assert all(load["p_filesz"] == load["p_memsz"] for load in loads)
    spans = [(load["p_vaddr"], load["p_vaddr"] + load["p_memsz"]) for load in loads]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    last = notes[-1]  # our own, behind all memory: it is written last
    assert max(load["p_offset"] + load["p_filesz"] for load in loads) == last["p_offset"]
    assert last["p_offset"] + last["p_filesz"] == report.size


def test_the_modes_contain_each_other(dumps: dict[DumpMode, CaptureReport]) -> None:
    minimal, heap, full = (dumps[mode] for mode in MODES)
    assert minimal.disk_size < heap.disk_size < full.disk_size
    assert minimal.pause_s == heap.pause_s == full.pause_s
    assert all(Path(report.path).stat().st_mode & 0o777 == 0o600 for report in dumps.values())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("program", ["GcHeap", "Busy"])
def test_a_heap_dump_weighs_its_objects_and_20_mb(
    program: str, version: str, tmp_path: Path
) -> None:
    with running(program, version) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP])
    assert report.disk_size == Path(report.path).stat().st_blocks * 512
    assert report.disk_size <= report.clr["gc_bytes"] + RUNTIME_SHARE


def createdump(pid: int, version: str, path: Path) -> int:
    """The bytes on disk of the heap dump that the runtime's own tool takes."""
    program = runtimes.framework(version) / "createdump"
    command = [str(program), "--withheap", "-f", str(path), str(pid)]
    subprocess.run(command, check=True, capture_output=True)
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("version", VERSIONS)
def test_never_larger_than_createdumps(version: str, tmp_path: Path) -> None:
    with running("GcHeap", version) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP])  # first: the other touches pages
        assert report.disk_size <= createdump(app.pid, version, tmp_path / "createdump")


def test_native_memory_stays_out(tmp_path: Path) -> None:
    """50 MB of objects beside 300 MB that malloc gave."""
    with running("GcHeap", args=["--small", "44", "--large", "8", "--native", "300"]) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP])
        assert report.disk_size * 3 <= createdump(app.pid, "10.0.14", tmp_path / "createdump")
        assert app.alive()
    assert report.clr["gc_bytes"] > 50_000_000


def test_a_gc_that_works_all_the_time(tmp_path: Path) -> None:
    """The stop is given up while the heap cannot be walked; the dump is whole all the same."""
    with running("Alloc", args=["--threads", "2"]) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP])
        done = minidumper("verify", report.path, cwd=tmp_path)
        said = [warning.stage for warning in report.warnings]
        assert said == ["gc"] or (said, done.returncode) == ([], 0), done.stdout
        rounds = int(app.ask("rounds"))
        while int(app.ask("rounds")) < rounds + 2:  # it goes on
            pass
