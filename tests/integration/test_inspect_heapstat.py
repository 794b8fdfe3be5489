"""`heapstat` counts what stock ClrMD counts, on dumps and on a process that runs on."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper import platforms
from minidumper.cli import main
from minidumper.errors import CaptureError, ClrError
from minidumper.heapstat import HeapStatistics, TypeRow, by_type, of_dump, of_process
from minidumper.writer import write_dump
from tests.support import gates, oracle, runtimes, targets

gates.demand("linux", module=True)

pytestmark = pytest.mark.gate("toolchain", "embedded-host", "ptrace")

VERSIONS = [
    "10.0.14",
    "9.0.22",
    pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes")),
    pytest.param("3.1.23", marks=pytest.mark.gate("old-runtimes")),
]


@pytest.fixture(scope="module")
def target() -> Iterator[targets.Running]:
    with targets.running("GcHeap") as running:
        yield running


@pytest.fixture(scope="module")
def dump(target: targets.Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "heap.dmp"
    write_dump(target.pid, "heap", str(path))
    return path


def counted_by_clrmd(file: Path, version: str) -> Counter[tuple[str, int]]:
    """Counts and bytes of each method table, under the type's name."""
    lines = oracle.sections(file, runtimes.dac(version), ["heap"])["heap"]
    found: Counter[tuple[str, int]] = Counter()
    for line in lines:
        _, count, size, name = line.split(" ", 3)
        found[name, 0] += int(count)
        found[name, 1] += int(size)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_stock_clrmd_counts_the_same(version: str, tmp_path: Path) -> None:
    with targets.running("GcHeap", version) as running:
        write_dump(running.pid, "heap", str(tmp_path / "heap.dmp"))
    ours: Counter[tuple[str, int]] = Counter()
    for row in of_dump(tmp_path / "heap.dmp").rows:
        ours[row.type, 0] += row.count
        ours[row.type, 1] += row.size
    assert ours == counted_by_clrmd(tmp_path / "heap.dmp", version)


def test_a_live_process_has_what_its_dump_has(target: targets.Running, dump: Path) -> None:
    live = of_process(target.pid)
    assert records(live) == records(of_dump(dump)) != []
    assert live.count > 200_000
    assert live.warnings == ()
    assert target.alive()


def records(heap: HeapStatistics) -> list[TypeRow]:
    """What does not change where the program answers."""
    return by_type(heap.rows, wanted=lambda name: name == "Heap+Record")


def test_without_a_snapshot_the_process_is_stopped_and_that_is_said(
    target: targets.Running, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(target: object) -> None:
        raise CaptureError("no snapshot: because", stage="snapshot")

    monkeypatch.setattr(platforms, "snapshot", none)
    live = of_process(target.pid)
    assert records(live) == records(of_dump(dump))
    assert "stopped for the whole walk: no snapshot: because" in live.warnings[0]
    assert live.stopped_s > 0
    assert target.alive()


def test_a_process_whose_gc_runs_all_the_time_is_counted_or_that_is_said() -> None:
    """Which of them depends on the moments that were met; the process runs on in any case."""
    said = ""
    names: set[str] = set()
    with targets.running("Alloc") as running:
        try:
            names = {row.type for row in of_process(running.pid).rows}
        except ClrError as err:
            said = str(err)
        counted = any(name.startswith("System.Collections.Generic.Dictionary<") for name in names)
        assert counted or "in motion at each of" in said
        assert running.alive()


def test_progress_is_told(dump: Path) -> None:
    told: list[tuple[str, int, int]] = []
    of_dump(dump, progress=lambda *step: told.append(step))
    assert told
    assert all(stage == "objects" and 0 < done <= total for stage, done, total in told)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["99999999"], 3, "there is no process 99999999"),
        (["/nowhere/x.dmp"], 1, "cannot open /nowhere/x.dmp"),
        (["/proc/version"], 1, "neither an ELF core nor any other dump"),
        ([str(os.getpid())], 1, "has no .NET runtime in it"),
        (["1", "--top", "0"], 2, "invalid value for '--top'"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = main.run(["heapstat", *words])
    told = capsys.readouterr()
    assert (ended, told.out) == (code, "")
    assert said in told.err
    assert told.err.count("\n") <= 2


def test_a_dump_without_a_heap_is_no_heap_of_nothing(
    target: targets.Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mini.dmp"
    write_dump(target.pid, "minimal", str(path))
    assert main.run(["heapstat", str(path)]) == 1
    assert "the GC heap is not in" in capsys.readouterr().err


@pytest.mark.gate("gdb")
def test_a_dump_without_metadata_has_sizes_without_names(
    target: targets.Running, tmp_path: Path
) -> None:
    subprocess.run(
        ["gcore", "-o", tmp_path / "core", str(target.pid)], check=True, capture_output=True
    )
    heap = of_dump(tmp_path / f"core.{target.pid}")
    assert heap.count > 200_000
    assert "(unknown)" in {row.type for row in by_type(heap.rows)}
