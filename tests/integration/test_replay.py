"""`verify` replays SOS's commands: our dumps lack nothing, and what others lack is shown."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from minidumper.dumpfile import open_dump
from minidumper.plan import DumpMode, DumpPlan
from minidumper.planning import Planner
from minidumper.ranges import MemoryRange, Reason
from minidumper.stripping import strip
from minidumper.target import ThreadInfo, VmRegion
from minidumper.verification import verify
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
COMMANDS = {
    *("dumpheap -stat", "clrstack -a", "dumpmodule", "dumpmt -md", "eeheap", "clrthreads"),
    *("dumpstackobjects", "dumpobj", "dumpclass", "printexception", "dumpasync", "timerinfo"),
    *("dumpalc", "gchandles", "finalizequeue", "syncblk", "threadpool", "dumpdomain", "dumplog"),
}


@pytest.mark.parametrize("program", ["Busy", "Dynamic"])
@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_missing_in_ours_and_createdumps_lacks_files(
    version: str, program: str, tmp_path: Path
) -> None:
    other = tmp_path / "createdump"
    with running(program, version) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP])
        tool = runtimes.framework(version) / "createdump"
        command = [str(tool), "--withheap", "-f", str(other), str(app.pid)]
        subprocess.run(command, check=True, capture_output=True)
    commands = set()
    found = verify(report.path, progress=lambda command, *_: commands.add(command))
    assert (found.missing, found.problems) == ((), ())
    assert commands == COMMANDS
    lacks = verify(other)
    assert lacks.missing
    assert {item.command for item in lacks.missing} <= COMMANDS
    # Without the types' memory the DAC of 3.1 reads on at random: no reason fits that.
    assert version == "3.1.23" or any(item.reason.endswith(".dll") for item in lacks.missing)
    assert any(item.command in lacks.problems[0] for item in lacks.missing)


@pytest.mark.parametrize(
    ("reason", "command", "told"),
    [
        # Of the tables only what lies in them tells that they are some.
        (Reason.HANDLE_TABLE, "gchandles", ""),
        (Reason.LOADER_HEAP, "dumpheap -stat", "LOADER_HEAP"),
    ],
)
def test_what_is_left_out_is_missed(
    reason: Reason, command: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole reason is taken out of the plan: the command that needs it tells, and why."""
    with running("GcHeap") as app:
        (full,) = dump(app.pid, tmp_path, [DumpMode.FULL])
    plan = Planner.plan

    def without(
        self: Planner,
        mode: DumpMode,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        **options: bool,
    ) -> DumpPlan:
        whole = plan(self, mode, regions, threads, **options)
        kept = tuple(item for item in whole.ranges if not item.reasons & reason)
        return DumpPlan(whole.mode, kept, whole.warnings, whole.clr)

    monkeypatch.setattr(Planner, "plan", without)
    small = tmp_path / "small"
    strip(full.path, str(small))
    report = verify(small)
    if report.counts:  # else the DAC crashed, which is told too
        reasons = {item.reason for item in report.missing if item.command == command}
        assert any(told in text for text in reasons), report.missing
    assert report.problems


def test_a_large_object_that_was_just_being_made_is_told(tmp_path: Path) -> None:
    """It belongs to the heap while its memory is cleared, before it has a type."""
    with running("GcHeap", args=["--large", "2"]) as app:
        (full,) = dump(app.pid, tmp_path, [DumpMode.FULL])
    segments = oracle.sections(Path(full.path), runtimes.dac("10.0.14"), ["segments"])["segments"]
    (large,) = (line for line in segments if " Large " in line)
    address = int(large.partition(" objects ")[2].partition("-")[0], 16)
    with open_dump(full.path) as opened:
        ((_, _, offset),) = opened.memory.parts(MemoryRange(address, address + 8))
    with open(full.path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(8))
    report = strip(full.path, str(tmp_path / "small"))
    assert [warning.stage for warning in report.warnings] == ["gc"]
    assert "making a large object" in report.warnings[0].message
    assert verify(report.path).problems == (
        f"0x{address:x}: an object without a type: a thread was just making it",
    )
    assert minidumper("heapstat", report.path, cwd=tmp_path).returncode == 0
