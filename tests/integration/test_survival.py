"""Whatever happens to minidumper, the target runs on: and one clear line says what happened."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.clr import client
from minidumper.clr.answers import ClrRegions
from minidumper.clr.client import ClrClient
from minidumper.dumpinfo import dump_info
from minidumper.errors import (
    AccessDeniedError,
    BridgeError,
    MiniDumperError,
    TargetExitedError,
)
from minidumper.plan import DumpMode
from minidumper.platforms.linux import access, libc
from minidumper.report import Way
from minidumper.target import ThreadInfo
from tests.support import gates, kills, paths, processes
from tests.support.commands import ENVIRONMENT, minidumper, started
from tests.support.snapshots import FILTERED
from tests.support.targets import Running, running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

SEED = 5
SIZES = ["--small", "40", "--large", "60"]
NOBODY = 65534


@pytest.fixture(scope="module")
def app() -> Iterator[Running]:
    with running("GcHeap", args=SIZES) as target:
        yield target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the dumps go."""
    where = tmp_path / "dumps"
    where.mkdir()
    return where


def assert_well(app: Running) -> None:
    assert app.alive()
    assert not set(processes.state(app.pid)) & set("tT"), "a thread is held"


def assert_failed(
    error: MiniDumperError, folder: Path, *said: str, code: int = 1, hint: bool = True
) -> None:
    """One line, the exit code, what to do, and no file."""
    assert str(error).splitlines() == [str(error)]
    assert all(text in str(error) for text in said), error
    assert error.exit_code == code
    assert bool(error.hint) or not hint
    assert not list(folder.iterdir())


def test_killed_at_any_moment(folder: Path) -> None:
    """`python -m tests.support.kills` does this 1,000 times."""
    with kills.killer(folder) as killer:
        for turn in kills.rounds(50, SEED):
            killer.play(turn)
    assert killer.outcomes.total() == 50
    assert sum(n for text, n in killer.outcomes.items() if "killed" in text) > 20


@pytest.mark.parametrize("step", range(1, kills.STEPS))
@pytest.mark.parametrize("words", [("-ma",), ("-mh", "--async")], ids=" ".join)
def test_ctrl_c_at_any_step(app: Running, folder: Path, words: tuple[str, ...], step: int) -> None:
    with started("-v", *words, app.pid, cwd=folder) as own:
        assert own.stderr
        said = ""
        while kills.steps(words)[step] not in said:
            said += own.stderr.readline()
        own.send_signal(signal.SIGINT)
        out, last = own.communicate()
    assert_well(app)
    if own.returncode == 0:  # it was through
        (path,) = folder.iterdir()
        assert dump_info(path).writer.startswith("minidumper")
        return
    assert (own.returncode, out) == (130, ""), said + last
    assert last.splitlines()[-2:] == [
        f"minidumper: process {app.pid} runs on",
        "minidumper: interrupted",
    ]
    assert not list(folder.iterdir())


@pytest.mark.gate("root", "unshare")
@pytest.mark.parametrize("words", ["-mh", "-mh --async", "-mm -ma"])
def test_a_disk_that_fills_in_the_middle(app: Running, folder: Path, words: str) -> None:
    """As if something else had taken the space after it was looked at."""
    source = """
        import subprocess
import sys
        from minidumper.cli.main import main
        from minidumper.platforms.linux.backend import LinuxBackend
        LinuxBackend.free_space = staticmethod(lambda path: 1 << 40)
        sys.exit(main())
    """
    lines = (line.strip() for line in source.splitlines())
    inside = f'cd {folder} && mount -t tmpfs -o size=20m none . && cd . && "$@"; code=$?'
    options = [*words.split(), "-o", str(folder), str(app.pid)]
    own = [sys.executable, "-c", "\n".join(lines), *options]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{inside}; ls -A {folder}; exit $code", "sh", *own],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert error.startswith(f"minidumper: error: cannot write {folder}")
    assert error.endswith(": No space left on device")
    assert hint == "hint: free some space, or choose another folder with -o"
    assert_well(app)


@pytest.mark.gate("root", "unshare")
def test_a_disk_too_small_is_found_before_the_stop(app: Running, folder: Path) -> None:
    script = (
        f'mount -t tmpfs -o size=20m none {folder} && "$@"; code=$?; ls -A {folder}; exit $code'
    )
    app.start_clock()
    done = minidumper(
        *("-v", "-mh", "-o", folder, app.pid),
        cwd=folder,
        prefix=["unshare", "-m", "sh", "-c", script, "sh"],
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "not enough disk" in done.stderr
    assert "stood still" not in done.stderr
    assert app.gap_ms() < 500


def test_the_target_ends_while_it_is_copied(folder: Path) -> None:
    with (
        running("GcHeap", args=SIZES) as app,
        platforms.open_target(app.pid) as target,
        Capture(target, [DumpMode.HEAP]) as capture,
    ):
        files = [str(folder / "x")]
        with pytest.raises(TargetExitedError) as failed:
            capture.write(files, progress=lambda *_: os.kill(app.pid, signal.SIGKILL))
    assert_failed(failed.value, folder, f"process {app.pid} ended", code=3, hint=False)


def test_the_target_ends_while_its_snapshot_is_written(folder: Path) -> None:
    with (
        running("GcHeap", args=SIZES) as app,
        platforms.open_target(app.pid) as target,
        Capture(target, [DumpMode.HEAP]) as capture,
    ):
        files = [str(folder / "x")]
        kill = lambda *_: os.kill(app.pid, signal.SIGKILL)  # noqa: E731
        (report,) = capture.write(files, async_copy=True, progress=kill)
        assert (report.way, report.warnings) == (Way.SNAPSHOT, ())
    assert minidumper("verify", folder / "x", cwd=folder).returncode == 0


@pytest.mark.parametrize("mode", DumpMode)
def test_threads_are_born_and_die(mode: DumpMode, folder: Path) -> None:
    with running("Churn") as app:
        with platforms.open_target(app.pid) as target, Capture(target, [mode]) as capture:
            for number in range(5):
                (report,) = capture.write([str(folder / str(number))])
                assert {warning.stage for warning in report.warnings} <= {"threads"}
        died = int(app.ask("died"))
        assert_well(app)
        while int(app.ask("died")) < died + 100:  # they go on to be born
            pass
    done = minidumper("verify", "--json", folder / "4", cwd=folder)
    assert (done.returncode == 0) == (mode is not DumpMode.MINIMAL), done.stdout


def hit_workers(patch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Send the worker a signal when it is asked inside a stop, so many times."""
    collect = ClrClient.collect
    left = iter(range(times))

    def hit(self: ClrClient, threads: Sequence[ThreadInfo], **options: Any) -> ClrRegions:
        if threads and next(left, None) is not None:
            os.kill(self._process.pid, number)
        return collect(self, threads, **options)

    patch.setattr(ClrClient, "collect", hit)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("times", [1, 2])
def test_the_worker_hangs_or_crashes_inside_the_stop(
    app: Running, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, times: int
) -> None:
    """Once it is started anew; twice it is an error."""
    hit_workers(monkeypatch, number, times)
    monkeypatch.setattr(client, "COLLECT_S", 0.5)
    app.start_clock()
    with platforms.open_target(app.pid) as target, Capture(target, [DumpMode.HEAP]) as capture:
        if times == 1:
            (report,) = capture.write([str(folder / "x")])
            assert [warning.stage for warning in report.warnings] == ["clr"]
        else:
            with pytest.raises(BridgeError) as failed:
                capture.write([str(folder / "x")])
            assert_failed(failed.value, folder, "the CLR side", hint=False)
    assert app.gap_ms() < 3000
    assert_well(app)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_crash_inside_the_stop_comes_again_or_not(
    app: Running, folder: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """What was in motion at one stop is not at the next; a mode that always fails is an error."""
    collect = ClrClient.collect
    left = iter(range(times))

    def crash(self: ClrClient, threads: Sequence[ThreadInfo], **options: Any) -> ClrRegions:
        if threads and not options["minimal"] and next(left, None) is not None:
            self._process.send_signal(signal.SIGUSR2)  # of which no runtime has a handler
            self._process.wait()
        return collect(self, threads, **options)

    monkeypatch.setattr(ClrClient, "collect", crash)
    paths = [str(folder / "m"), str(folder / "h")]
    modes = [DumpMode.MINIMAL, DumpMode.HEAP]
    with platforms.open_target(app.pid) as target, Capture(target, modes) as capture:
        if times < 3:
            for report in capture.write(paths):
                assert [warning.stage for warning in report.warnings] == ["clr"] * (times - 1)
        else:
            with pytest.raises(BridgeError) as failed:
                capture.write(paths)
            assert_failed(failed.value, folder, "SIGUSR2", hint=False)
    assert_well(app)


def test_permission_under_yama(
    app: Running, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This kernel has none: its file is a substitute, and its EPERM is ours."""
    scope = tmp_path / "ptrace_scope"
    scope.write_text("1\n")

    def refuse(request: int, *_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(libc, "ptrace", refuse)
    monkeypatch.setattr(access, "YAMA_SCOPE", scope)
    monkeypatch.setattr(access, "has_capability", lambda number: False)
    with (
        platforms.open_target(app.pid) as target,
        Capture(target, [DumpMode.HEAP]) as capture,
        pytest.raises(AccessDeniedError) as failed,
    ):
        capture.write([str(folder / "x")])
    assert failed.value.gate == "yama"
    assert "sysctl kernel.yama.ptrace_scope=0" in failed.value.hint
    assert_failed(failed.value, folder, "kernel.yama.ptrace_scope is 1", code=4)
    assert_well(app)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOTNET_DiagnosticPorts", "x,suspend"),
        ("DOTNET_GCHeapHardLimit", "0x1000000"),
        ("CORECLR_ENABLE_PROFILING", "1"),
        ("LD_PRELOAD", "/missing.so"),
        ("DOTNET_gcServer", "1"),
        ("DOTNET_STARTUP_HOOKS", "/missing.dll"),
    ],
)
def test_nothing_is_inherited(app: Running, folder: Path, name: str, value: str) -> None:
    """As under `kubectl exec`, which gives us the target's own variables."""
    env = {name: value, "CORECLR_PROFILER": "{00000000-0000-0000-0000-000000000001}"}
    done = minidumper("-mh", "--json", app.pid, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["warnings"] == []
    # What the loader says of LD_PRELOAD is said of Python itself; to it we are not started yet.
    assert all("ld.so" in line for line in done.stderr.splitlines())
    assert_well(app)


def limit(group: Path, left: int) -> None:
    """Let a control group use so many bytes more than it does."""
    second = (group / "memory.current").exists()
    used = (group / ("memory.current" if second else "memory.usage_in_bytes")).read_text()
    name = "memory.max" if second else "memory.limit_in_bytes"
    (group / name).write_text(str(int(used) + left))


def join(group: Path) -> list[str]:
    """A prefix that starts a command in a control group."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]


@pytest.mark.gate("root", "cgroup")
def test_a_copy_that_does_not_fit_into_the_control_group(folder: Path) -> None:
    with (
        gates.control_group("memory", "minidumper-copy") as group,
        running("GcHeap", args=SIZES, prefix=FILTERED) as app,
    ):
        limit(group, 150 << 20)
        done = minidumper("-ma", "--async", app.pid, cwd=folder, prefix=join(group))
        assert_well(app)
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"needs [\d.]+ MB, but [\d.]+ MB are left .*minidumper-copy", error)
    assert "--async" in hint
    assert not list(folder.iterdir())


@pytest.mark.gate("root", "cgroup")
@pytest.mark.parametrize("words", ["-mh", "-mh --async", "-ma --async"])
def test_100_mb_left_for_the_target_and_us(folder: Path, words: str) -> None:
    """Memory runs out: the kernel ends minidumper or its worker, and never the target."""
    with (
        gates.control_group("memory", "minidumper-tight") as group,
        running("GcHeap", args=SIZES) as app,
    ):
        (group / "cgroup.procs").write_text(str(app.pid))
        limit(group, 100 << 20)
        done = minidumper(*words.split(), app.pid, cwd=folder, prefix=join(group))
        assert_well(app)
        limit(group, 1 << 40)
        assert app.ask("collect") == "collected"
    assert done.returncode in (0, 1, -signal.SIGKILL), done.stderr
    assert len(list(folder.iterdir())) == (done.returncode == 0)


@pytest.mark.gate("root")
def test_installed_where_the_targets_user_cannot_enter(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copytree(paths.CHECKOUT / "minidumper", home / "minidumper")
    (home / "lib").symlink_to(paths.CHECKOUT / "lib")
    with running("GcHeap", user="nobody") as app:
        done = minidumper("-mh", "--json", app.pid, cwd=folder, env={"PYTHONPATH": str(home)})
        assert_well(app)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["warnings"] == []


# Test runners live where only root may enter: so much of root is left.
PLAIN_USER = [
    *("setpriv", f"--reuid={NOBODY}", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--"),
]
CAPABILITIES_OF_A_CONTAINER = ["setpriv", "--bounding-set=-all,+sys_ptrace,+dac_override", "--"]


@pytest.mark.gate("root")
@pytest.mark.parametrize(
    ("prefix", "user"),
    [
        (PLAIN_USER, "nobody"),
        (CAPABILITIES_OF_A_CONTAINER, "root"),
        (CAPABILITIES_OF_A_CONTAINER, "nobody"),
    ],
    ids=["same-user", "container-root", "container-nobody"],
)
def test_who_cannot_become_another_user(folder: Path, prefix: list[str], user: str) -> None:
    folder.chmod(0o777)
    with running("GcHeap", user=user) as app:
        done = minidumper("-mh", "--json", app.pid, cwd=folder, prefix=prefix)
        assert_well(app)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["warnings"] == []


@pytest.mark.gate("root")
def test_denied_as_another_user(app: Running, folder: Path) -> None:
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
    with running("Clock", user="nobody") as other:
        done = minidumper("-mh", other.pid, cwd=folder, prefix=prefix)
        assert_well(other)
    assert done.returncode == 4
    assert f"it runs as user {NOBODY}" in done.stderr
    assert not list(folder.iterdir())


@pytest.mark.gate("root")
def test_denied_as_another_group(folder: Path) -> None:
    prefix = [*PLAIN_USER[:2], "--regid=1", *PLAIN_USER[2:]]
    with running("Clock", user="nobody") as other:
        done = minidumper("-ma", other.pid, cwd=folder, prefix=prefix)
        told = minidumper("doctor", "--json", other.pid, cwd=folder, prefix=prefix)
        assert_well(other)
    assert (done.returncode, told.returncode) == (4, 4)
    assert "it runs as group 0, minidumper as group 1" in done.stderr
    assert "runAsUser: 65534, runAsGroup: 0" in told.stdout
