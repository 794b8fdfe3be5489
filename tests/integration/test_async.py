"""A dump from a snapshot is the dump of its stop; where none can be had, the memory is copied."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.errors import CaptureError, StopTimeoutError
from minidumper.plan import DumpMode
from minidumper.planning import Planner
from minidumper.report import CaptureReport, Way
from minidumper.target import ThreadInfo
from tests.support import gates, oracle, runtimes
from tests.support.commands import minidumper
from tests.support.dumps import dump
from tests.support.processes import state
from tests.support.snapshots import FILTERED
from tests.support.targets import Running, running

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.platforms.linux import fork, snapshot
from minidumper.platforms.linux.backend import LinuxBackend
from minidumper.platforms.linux.output import OutputFile
from minidumper.platforms.linux.process import LinuxProcess

pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

OLD = pytest.mark.gate("old-runtimes")


def write_full(process: LinuxProcess, threads: Sequence[ThreadInfo], path: Path) -> None:
    """A full dump of a process that stands still."""
    with Planner(process, [DumpMode.FULL]) as planner:
        assert planner.runtime
        regions = process.regions()
        plan = planner.plan(DumpMode.FULL, regions, threads)
        image = process.image(plan, regions, threads, runtime_base=planner.runtime.base)
    with OutputFile(str(path)) as file:
        image.write(process.memory, file)
        image.seal(file, {"mode": "full"})
        file.commit()


@pytest.mark.parametrize(
    ("program", "version"),
    [
        ("GcHeap", "10.0.14"),
        ("Busy", "10.0.14"),
        ("Busy", "9.0.22"),
        pytest.param("Busy", "8.0.4", marks=OLD),
        pytest.param("Busy", "3.1.23", marks=OLD),
    ],
)
def test_it_reads_as_the_stop(
    program: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every section of both, by stock ClrMD: the full dump of the same stop, and this one."""
    prepare = LinuxBackend.prepare_snapshot

    def and_write(self: LinuxBackend, target: LinuxProcess) -> Callable[[], snapshot.Snapshot]:
        take = prepare(self, target)

        def both() -> snapshot.Snapshot:
            taken = take()
            write_full(target, taken.threads(), tmp_path / "stop")
            return taken

        return both

    monkeypatch.setattr(LinuxBackend, "prepare_snapshot", and_write)
    with running(program, version) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP], async_copy=True)
        assert app.alive()
    assert (report.way, report.warnings) == (Way.SNAPSHOT, ())
    dac = runtimes.dac(version)
    expected = oracle.sections(tmp_path / "stop", dac)
    assert oracle.differences(expected, oracle.sections(Path(report.path), dac)) == {}


def written(app: Running, folder: Path) -> CaptureReport:
    """A heap dump that can be read, of a process that runs on."""
    (report,) = dump(app.pid, folder, [DumpMode.HEAP], async_copy=True)
    assert app.alive()
    done = minidumper("verify", report.path, cwd=folder)
    assert done.returncode == 0, done.stdout
    return report


def test_what_the_target_writes_meanwhile_is_told(tmp_path: Path) -> None:
    with running("Alloc") as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.FULL], async_copy=True)
        assert app.alive()
    assert report.way is Way.SNAPSHOT
    assert report.copied_on_write


def test_a_gc_that_works_all_the_time(tmp_path: Path) -> None:
    with running("Alloc", args=["--threads", "2"]) as app:
        (report,) = dump(app.pid, tmp_path, [DumpMode.HEAP], async_copy=True)
        done = minidumper("verify", report.path, cwd=tmp_path)
        assert (done.returncode == 0) or report.warnings, done.stdout
        rounds = int(app.ask("rounds"))
        while int(app.ask("rounds")) < rounds + 2:  # it goes on
            pass


def test_several_dumps_in_a_row(tmp_path: Path) -> None:
    """Each of a snapshot of its own; neither descriptors nor threads are left of one."""
    own = psutil.Process()
    with (
        running("GcHeap") as app,
        platforms.open_target(app.pid) as target,
        Capture(target, [DumpMode.HEAP]) as capture,
    ):
        (worker,) = own.children()[1:]
        counts = []
        for number in range(4):
            (report,) = capture.write([str(tmp_path / str(number))], async_copy=True)
            assert (report.way, report.warnings) == (Way.SNAPSHOT, ())
            counts.append((worker.num_fds(), own.num_fds(), own.num_threads()))
        assert counts[1] == counts[3]
    done = minidumper("verify", report.path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_process_that_cannot_be_snapshot_is_copied(tmp_path: Path) -> None:
    with running("GcHeap", prefix=FILTERED) as app:
        report = written(app, tmp_path)
        assert report.way is Way.COPY
        (warning,) = report.warnings
        assert warning.stage == "snapshot"
        assert "copied instead: no snapshot: the target has a seccomp filter" in warning.message
        done = minidumper("-mm", "--async", "--json", app.pid, cwd=tmp_path)
        assert json.loads(done.stdout)["warnings"][0]["message"] == warning.message


@pytest.mark.gate("root", "cgroup-pids")
def test_a_fork_that_is_denied_is_followed_by_a_copy_of_the_same_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "check_headroom", lambda pid: None)
    with running("GcHeap") as app, gates.control_group("pids", "minidumper-denied") as group:
        (group / "cgroup.procs").write_text(str(app.pid))
        (group / "pids.max").write_text("1")
        report = written(app, tmp_path)
    assert report.way is Way.COPY
    assert "denied the target a fork" in report.warnings[0].message


@pytest.mark.gate("root", "unshare")
def test_the_first_process_of_a_namespace_keeps_no_zombie(tmp_path: Path) -> None:
    with running("GcHeap", prefix=["unshare", "-pfm", "--mount-proc"]) as app:
        report = written(app, tmp_path)
        children = Path(f"/proc/{app.pid}/task/{app.pid}/children").read_text()
    assert (report.way, report.warnings, children) == (Way.SNAPSHOT, (), "")


def test_a_snapshot_held_too_long_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = snapshot.take_snapshot

    def held_shortly(process: LinuxProcess, gadgets: object, **_: object) -> snapshot.Snapshot:
        taken = take(process, gadgets, hold_s=0)  # type: ignore[arg-type]
        assert taken._timer
        taken._timer.join()
        return taken

    monkeypatch.setattr(snapshot, "take_snapshot", held_shortly)
    with running("GcHeap") as app:
        with pytest.raises(CaptureError, match="held too long") as failed:
            dump(app.pid, tmp_path, [DumpMode.FULL], async_copy=True)
        assert app.alive()
        assert "--async" in failed.value.hint
        assert not set(state(app.pid)) & set("tT")
    assert os.listdir(tmp_path) == []


def test_a_snapshot_that_takes_too_long_is_followed_by_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = fork._wait

    def impatient(tid: int, deadline: float) -> int:
        if deadline < math.inf:  # else it is let go
            raise StopTimeoutError("the fork of the target took longer than 0 s", stage="snapshot")
        return wait(tid, deadline)

    monkeypatch.setattr(fork, "_wait", impatient)
    with running("GcHeap") as app:
        report = written(app, tmp_path)
        assert not set(state(app.pid)) & set("tT")
    assert report.way is Way.COPY
    assert "took longer than" in report.warnings[0].message


def test_several_modes_of_one_snapshot(tmp_path: Path) -> None:
    with running("GcHeap") as app:
        reports = dump(app.pid, tmp_path, async_copy=True)
        assert app.alive()
    assert [report.way for report in reports] == [Way.SNAPSHOT] * 3
    assert len({report.pause_s for report in reports}) == 1
