"""`regions` on real processes and dumps: it tells what a dump then really holds."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import pty
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from minidumper.cli import main
from minidumper.errors import TargetExitedError
from minidumper.plan import DumpMode
from minidumper.planning import Planner
from minidumper.platforms import open_target
from minidumper.regionmap import RegionMap, map_dump, map_process
from minidumper.writer import write_dump
from tests.support import commands, gates, targets

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
def found(target: targets.Running) -> RegionMap:
    return map_process(target.pid)


@pytest.fixture(scope="module")
def dump(target: targets.Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "heap.dmp"
    write_dump(target.pid, "heap", str(path))
    return path


def spans(text: str) -> list[tuple[int, int]]:
    """The address ranges of /proc/PID/maps (proc(5))."""
    words = [line.split()[0].split("-") for line in text.splitlines()]
    return [(int(start, 16), int(end, 16)) for start, end in words]


def test_every_region_of_the_process_is_there_once(
    target: targets.Running, found: RegionMap
) -> None:
    rows = found.rows
    assert all(one.end <= other.start for one, other in itertools.pairwise(rows))
    total = sum(row.size for row in rows)
    seen = sum(end - start for start, end in spans(Path(f"/proc/{target.pid}/maps").read_text()))
    assert total == pytest.approx(seen, rel=0.001)


def test_what_is_resident_is_not_more_than_the_kernel_counts(
    target: targets.Running, found: RegionMap
) -> None:
    """Anonymous memory as smaps has it (proc(5)); file mappings count whole with us."""
    anonymous = sum(
        int(line.split()[1]) * 1024
        for line in Path(f"/proc/{target.pid}/smaps").read_text().splitlines()
        if line.startswith("Anonymous:")
    )
    ours = sum(row.resident for row in found.rows if not row.path.startswith("/"))
    assert ours == pytest.approx(anonymous, rel=0.15)


def test_the_estimate_is_what_the_dump_then_takes(found: RegionMap, dump: Path) -> None:
    assert found.estimate
    stat = dump.stat()
    # What the DAC reads is looked at only for a moment: up to 2 MB more, whatever the heap.
    assert found.estimate.size == pytest.approx(stat.st_size, abs=3e6)
    assert found.estimate.disk_size == pytest.approx(stat.st_blocks * 512, abs=3e6)
    assert 0 < (found.estimate.async_pause_s or 0) < (found.estimate.pause_s or 0) < 60
    assert found.estimate.free_disk > 0


def test_a_dump_has_the_rows_of_its_load_segments(dump: Path) -> None:
    with open(dump, "rb") as file:
        loads = sum(
            s["p_filesz"] for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"
        )
    assert sum(row.size for row in map_dump(dump).rows) == loads


def test_process_and_dump_have_the_same_heap(found: RegionMap, dump: Path) -> None:
    live, file = found.as_dict()["totals"], map_dump(dump).as_dict()["totals"]
    for name in ("GC_HEAP", "METADATA", "HANDLE_TABLE", "STUBS"):
        # Not what is resident of it: reading an absent page maps the page of zeros there.
        assert live[name]["size"] == file[name]["size"], name


def test_modes_hold_more_and_more(target: targets.Running) -> None:
    sizes = []
    for mode in (DumpMode.MINIMAL, DumpMode.HEAP, DumpMode.FULL):
        estimate = map_process(target.pid, mode).estimate
        assert estimate
        sizes.append(estimate.disk_size)
    assert sizes[0] < sizes[1] / 1.5
    assert sizes[1] < sizes[2] / 1.5


def test_a_full_dump_leaves_nothing_out_that_can_be_read(target: targets.Running) -> None:
    found = map_process(target.pid, DumpMode.FULL)
    left = {row.path for row in found.rows if row.protection[0] == "r" and not row.reasons}
    assert left <= {"[vvar]", "[vvar_vclock]"}, "the kernel shows these to nobody"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_runtime_names_the_main_reasons(version: str) -> None:
    with targets.running("GcHeap", version) as running:
        found = map_process(running.pid)
        assert running.alive()
    names = found.as_dict()["totals"].keys()
    assert {"GC_HEAP", "LOADER_HEAP", "STACK", "METADATA", "MODULE_HEADER"} <= names
    assert found.facts["runtime"] == version


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main.run(["regions", *words])
    return code, *capsys.readouterr()


def test_json_csv_and_table_tell_the_same(
    target: targets.Running, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run([str(target.pid), "--json", "--reason", "STACK"], capsys)
    assert code == 0
    told: dict[str, Any] = json.loads(out)
    stacks = {row["start"] for row in told["regions"]}
    code, out, _ = run([str(target.pid), "--csv", "--reason", "STACK"], capsys)
    assert {row["start"] for row in csv.DictReader(io.StringIO(out))} == stacks
    code, out, _ = run([str(target.pid), "--sort", "size"], capsys)
    assert "A heap dump holds" in out
    assert "GC_HEAP" in out


def test_a_process_differs_from_its_dump_where_files_have_the_bytes(
    target: targets.Running, dump: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run([str(target.pid), "--diff", str(dump), "--json"], capsys)
    assert code == 0
    changes = json.loads(out)
    assert changes
    # A thread of the runtime may have ended since, and the DAC read more: the heap is the same.
    for change in changes:
        assert ("GC_HEAP" in change["before"]) == ("GC_HEAP" in change["after"]), change


def test_the_page_of_a_process(
    target: targets.Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    assert run([str(target.pid), "--html", str(path)], capsys)[0] == 0
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["99999999"], 3, "there is no process 99999999"),
        (["no-such-process-name"], 3, "no process is named no-such-process-name"),
        (["/nowhere/x.dmp"], 1, "cannot open /nowhere/x.dmp"),
        (["/"], 1, "cannot open /"),
        (["/proc/version"], 1, "neither an ELF core nor any other dump"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = run(words, capsys)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.count("\n") <= 2


def test_a_process_without_net_is_told_with_what_works(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            code, out, err = run([str(process.pid)], capsys)
            assert (code, out) == (1, "")
            assert "-mm" in err
            code, out, _ = run([str(process.pid), "-ma"], capsys)
            assert code == 0
            assert "[stack]" in out
        finally:
            process.kill()


def test_a_table_longer_than_the_terminal_goes_through_the_pager() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (10, 60))
    with subprocess.Popen(
        [*commands.PROGRAM, "regions", "-ma", str(os.getpid())],
        env=commands.ENVIRONMENT | {"TERM": "xterm", "PAGER": "cat -n"},
        stdin=theirs,
        stdout=theirs,
    ) as process:
        os.close(theirs)
        said = bytearray()
        with contextlib.suppress(OSError):  # EIO: the last descriptor of their side is closed
            while part := os.read(ours, 65536):
                said += part
        os.close(ours)
    assert process.returncode == 0
    lines = [line.partition("\t") for line in said.decode().splitlines()]
    assert len(lines) > 10
    assert [number.strip() for number, _, _ in lines] == [str(i + 1) for i in range(len(lines))]
    assert max(len(line) for _, _, line in lines) == 60


@pytest.mark.parametrize("reaped", [False, True])
def test_a_process_that_ends_meanwhile_is_told_so(reaped: bool) -> None:
    with (
        targets.running("GcHeap") as running,
        open_target(running.pid) as target,
        Planner(target, [DumpMode.HEAP], root=target.root, user=target.user) as planner,
    ):
        running.process.kill()
        os.waitid(os.P_PID, running.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        with pytest.raises(TargetExitedError):
            planner.rehearse()


def test_a_dump_of_a_process_whose_dac_is_gone(
    dump: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minidumper.clr.dac._fits", lambda *_: False)
    code, _, err = run([str(dump)], capsys)
    assert code == 1
    assert "no DAC fits" in err
    assert "hint: " in err


def test_a_gigabyte_of_heap_is_told_in_a_second_and_a_short_stop() -> None:
    """Limits for a busy machine; benchmarks/ has the figures of a quiet one."""
    sizes = ["--small", "700", "--large", "300"]
    with targets.running("GcHeap", args=sizes) as running:
        began = time.process_time()
        found = map_process(running.pid)
        own = time.process_time() - began
    assert found.as_dict()["totals"]["GC_HEAP"]["size"] > 900e6
    assert own < 1
    assert found.stopped_s < 1
