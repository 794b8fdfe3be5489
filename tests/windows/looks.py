"""`ps`, `doctor`, `info`, `regions` and `heapstat` inside Windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper.cli import main, regionpage
from minidumper.dumpinfo import dump_info
from minidumper.heapstat import by_type, of_dump, of_process
from minidumper.processes import dotnet_processes
from minidumper.regionmap import map_dump, map_process
from minidumper.writer import write_dump
from tests.support.targets import Running
from tests.windows import programs


@pytest.fixture(scope="module")
def target() -> Iterator[Running]:
    with programs.running() as running:
        yield running


def test_ps_finds_a_net_process(target: Running) -> None:
    (row,) = [row for row in dotnet_processes() if row.pid == target.pid]
    assert row.name == "GcHeap"
    assert row.version.startswith("10.")
    assert "GcHeap.dll" in row.command
    assert row.missing == ""
    assert row.rss > 1_000_000
    assert os.getpid() not in [row.pid for row in dotnet_processes()]


def doctor(pid: int, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    code = main.run(["doctor", "--json", str(pid)])
    gates = json.loads(capsys.readouterr().out)
    return code, {gate["gate"]: gate["state"] for gate in gates}


def test_doctor_finds_every_gate_open(target: Running, capsys: pytest.CaptureFixture[str]) -> None:
    code, gates = doctor(target.pid, capsys)
    assert "failed" not in gates.values(), gates
    assert code == 0
    assert target.alive()


def test_doctor_of_a_process_without_net(capsys: pytest.CaptureFixture[str]) -> None:
    with programs.python("input()") as process:
        code, gates = doctor(process.pid, capsys)
    assert (code, gates["runtime"]) == (1, "failed")


def test_doctor_of_no_process(capsys: pytest.CaptureFixture[str]) -> None:
    code, gates = doctor(99_999_996, capsys)
    assert (code, gates["exists"]) == (3, "failed")


DEBUGGER = """
import ctypes, sys
kernel32 = ctypes.windll.kernel32
assert kernel32.DebugActiveProcess(int(sys.argv[1]))
kernel32.DebugSetProcessKillOnExit(0)
print("holds it", flush=True)
input()
"""


def test_doctor_of_a_process_that_a_debugger_holds(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        programs.python("input()") as process,
        programs.python(DEBUGGER, str(process.pid)) as debugger,
    ):
        assert debugger.stdout
        assert debugger.stdout.readline() == "holds it\n"
        code, gates = doctor(process.pid, capsys)
    assert (code, gates["not traced"]) == (4, "failed")


def test_info_of_a_dump_by_dbghelp(target: Running, tmp_path: Path) -> None:
    path = tmp_path / "heap.dmp"
    write_dump(target.pid, "heap", str(path))
    info = dump_info(path)
    assert (info.format, info.architecture, info.pid) == ("minidump", "x64", target.pid)
    assert info.mode == "heap"
    assert info.runtime
    assert info.runtime.version.startswith("10.")
    assert info.runtime.heap_held == info.runtime.heap > 1_000_000
    assert info.runtime.server_gc is False
    paths = [row.path.lower() for row in info.modules]
    assert len(set(paths)) == len(paths)
    assert any(path.endswith("coreclr.dll") for path in paths)
    (program,) = [row for row in info.modules if row.path.endswith("GcHeap.dll")]
    assert program.assembly_version == "1.0.0.0"


def test_the_commands_run_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minidumper", "ps", "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert isinstance(json.loads(done.stdout), list)


def test_regions_of_a_process_and_of_its_dump(target: Running, tmp_path: Path) -> None:
    live = map_process(target.pid)
    assert target.alive()
    path = tmp_path / "heap.dmp"
    write_dump(target.pid, "heap", str(path))
    totals = [found.as_dict()["totals"] for found in (live, map_dump(path))]
    assert totals[0]["GC_HEAP"]["size"] == totals[1]["GC_HEAP"]["size"] > 1_000_000
    assert live.estimate
    assert live.estimate.disk_size == pytest.approx(path.stat().st_size, rel=0.3)
    assert "GC heap" in regionpage.page(live)


def test_heapstat_of_a_process_and_of_its_dump(target: Running, tmp_path: Path) -> None:
    path = tmp_path / "heap.dmp"
    write_dump(target.pid, "heap", str(path))
    live = of_process(target.pid)
    assert target.alive()
    assert "no snapshot" in live.warnings[0]
    counts = [
        [row.count for row in by_type(heap.rows) if row.type == "Heap+Record"]
        for heap in (live, of_dump(path))
    ]
    assert counts[0] == counts[1] != []
