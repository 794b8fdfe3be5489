"""A stripped full dump reads as the full one, whoever wrote that, as stock ClrMD sees both."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.dumpfile import open_dump
from minidumper.errors import ClrError, UsageError
from minidumper.plan import DumpMode
from minidumper.stripping import strip
from tests.support import gates, oracle, runtimes
from tests.support.commands import minidumper
from tests.support.dumps import dump
from tests.support.targets import running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

OLD = pytest.mark.gate("old-runtimes")
VERSIONS = [
    "10.0.14",
    "9.0.22",
    pytest.param("8.0.4", marks=OLD),
    pytest.param("3.1.23", marks=OLD),
]


def ours(pid: int, version: str, path: Path) -> None:
    (report,) = dump(pid, path.parent, [DumpMode.FULL])
    Path(report.path).rename(path)


def createdump(pid: int, version: str, path: Path) -> None:
    program = runtimes.framework(version) / "createdump"
    subprocess.run([program, "--full", "-f", path, str(pid)], check=True, capture_output=True)


def gcore(pid: int, version: str, path: Path) -> None:
    """With the pages of files, which it leaves out by default (core(5))."""
    Path(f"/proc/{pid}/coredump_filter").write_text("0x7f")
    subprocess.run(["gcore", "-o", path, str(pid)], check=True, capture_output=True)
    path.with_name(f"{path.name}.{pid}").rename(path)


@pytest.mark.parametrize(
    "write", [ours, createdump, pytest.param(gcore, marks=pytest.mark.gate("gdb"))]
)
@pytest.mark.parametrize("version", VERSIONS)
def test_it_reads_as_the_full_dump(
    version: str, write: Callable[[int, str, Path], None], tmp_path: Path
) -> None:
    full, small = tmp_path / "full", tmp_path / "small"
    with running("Busy", version) as app:
        write(app.pid, version, full)
        assert app.alive()
    dac = runtimes.dac(version)
    report = strip(full, str(small), dac=[dac.parent])
    assert report.warnings == ()
    assert report.disk_size == small.stat().st_blocks * 512 < full.stat().st_blocks * 512 / 2
    expected, found = (oracle.sections(path, dac) for path in (full, small))
    if write is gcore:  # it does not tell the pid where ClrMD looks for it
        expected["runtime"] = found["runtime"]
    assert oracle.differences(expected, found) == {}


def test_it_is_the_heap_dump_that_was_not_taken(tmp_path: Path) -> None:
    with running("GcHeap") as app:
        full, heap = dump(app.pid, tmp_path, [DumpMode.FULL, DumpMode.HEAP])
    done = minidumper("strip", full.path, "-o", "small.dmp.zst", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "heap dump of process" in done.stdout
    packed = tmp_path / "small.dmp.zst"
    assert packed.stat().st_size < heap.disk_size / 2
    minidumper("unpack", packed, cwd=tmp_path)
    dac, small = runtimes.dac("10.0.14"), tmp_path / "small.dmp"
    expected = oracle.sections(Path(heap.path), dac)
    assert oracle.differences(expected, oracle.sections(small, dac)) == {}
    assert minidumper("verify", packed, cwd=tmp_path).returncode == 0
    with open_dump(packed) as stripped:
        assert stripped.note
        assert (stripped.note["mode"], stripped.note["pause_s"]) == (
            "heap",
            round(full.pause_s, 6),
        )


def test_a_compressed_dump_is_as_full_of_holes(tmp_path: Path) -> None:
    plain, packed = str(tmp_path / "full.dmp"), str(tmp_path / "full.dmp.zst")
    with (
        running("GcHeap") as app,
        platforms.open_target(app.pid) as target,
        Capture(target, [DumpMode.FULL, DumpMode.FULL]) as capture,
    ):
        capture.write([plain, packed])
    reports = [strip(full, f"{full}.small") for full in (plain, packed)]
    first, second = (Path(report.path) for report in reports)
    assert second.stat().st_size == reports[1].size
    assert reports[1].disk_size <= reports[0].disk_size < reports[1].size
    with open_dump(first) as one, open_dump(second) as other:
        for region in one.regions():
            assert one.memory.read(region.start, region.size) == other.memory.read(
                region.start, region.size
            )


def test_what_cannot_be_stripped(tmp_path: Path) -> None:
    with running("GcHeap") as app:
        minimal, full = dump(app.pid, tmp_path, [DumpMode.MINIMAL, DumpMode.FULL])
        gcore_path = tmp_path / "gcore"
        subprocess.run(["gcore", "-o", gcore_path, str(app.pid)], check=True, capture_output=True)
    small = str(tmp_path / "small")
    with pytest.raises(ClrError, match=r"GC heap is not in|cannot be read"):
        strip(minimal.path, small)
    with pytest.raises(ClrError, match="cannot be read in full") as failed:
        strip(f"{gcore_path}.{app.pid}", small)
    assert "coredump_filter" in failed.value.hint
    with pytest.raises(UsageError):
        strip(full.path, small, DumpMode.FULL)
    assert not Path(small).exists()
