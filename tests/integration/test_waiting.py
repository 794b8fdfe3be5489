"""Waiting for the moment: limits, the end, launch, names; and the process runs on."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper import Monitor, TargetExitedError, UsageError, platforms
from minidumper.clr import client
from minidumper.clr.host import find_host
from minidumper.plan import DumpMode
from minidumper.verification import verify
from minidumper.watching import Watched
from tests.support import gates, oracle, processes, runtimes, targets
from tests.support.commands import minidumper, started
from tests.support.targets import Running, running
from tests.support.waiting import await_line, launch, reports, tell

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

DEADLINE_S = 60
VERSIONS = ["10.0.14", "9.0.22", pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes"))]


@pytest.fixture
def app() -> Iterator[Running]:
    with running("Faults") as target:
        yield target


def assert_well(app: Running) -> None:
    assert app.alive()
    assert not set(processes.state(app.pid)) & set("tT"), "a thread is held"
    assert "TracerPid:\t0\n" in Path(f"/proc/{app.pid}/status").read_text()


def test_above_a_limit_as_often_as_asked(app: Running, tmp_path: Path) -> None:
    words = ("-mm", "--json", "--maxmem", 1, "-s", 0, "-n", 2, app.pid)
    with started(*words, cwd=tmp_path) as own:
        found = reports(own)
    assert [report["trigger"] for report in found] == ["memory"] * 2
    assert len(list(tmp_path.iterdir())) == 2
    assert_well(app)


def test_a_limit_that_is_not_met_waits(app: Running, tmp_path: Path) -> None:
    with started("-mm", "--maxmem", 1_000_000, app.pid, cwd=tmp_path) as own:
        await_line(own, "waiting in process")
        own.send_signal(signal.SIGINT)
        assert own.wait(DEADLINE_S) == 130
    assert not list(tmp_path.iterdir())
    assert_well(app)


def test_two_at_once_are_told_of_each_other(app: Running, tmp_path: Path) -> None:
    with started("-mm", "-e", app.pid, cwd=tmp_path) as own:
        await_line(own, "waiting in process")
        done = minidumper("-mm", app.pid, cwd=tmp_path)
        own.send_signal(signal.SIGINT)
    assert done.returncode == 4
    assert f"minidumper waits in it, process {own.pid}: end that wait first" in done.stderr
    assert_well(app)


@pytest.mark.parametrize("version", VERSIONS)
def test_at_the_end_all_threads_and_memory_are_there(version: str, tmp_path: Path) -> None:
    with running("Faults", version) as app:
        threads = len(processes.state(app.pid))
        with started("-mh", "--json", "-t", app.pid, cwd=tmp_path) as own:
            await_line(own, "waiting in process")
            tell(app, "end exit")
            (report,) = reports(own)
    assert report["trigger"] == "exit"
    dac = runtimes.framework(version) / "libmscordaccore.so"
    stacks = oracle.sections(Path(report["path"]), dac, ["stacks"])["stacks"]
    for method in ("System.Environment.Exit(Int32)", "Faults.Program.Main()"):
        assert any(method in line for line in stacks)
    done = minidumper("info", "--json", report["path"], cwd=tmp_path)
    assert len(json.loads(done.stdout)["threads"]) >= threads


def test_behind_main_no_thread_has_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The DAC then gives no registers: whatever lies in their place is no address."""
    program = targets.command("Faults", "10.0.14")
    done = launch("-mh", "--json", "-t", program=program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout[done.stdout.index("[") :])
    # malloc then gives memory full of 0x58, mallopt(3): a multiple of 8, as addresses of code are.
    environment = client._environment() | {"MALLOC_PERTURB_": str(0x58 ^ 0xFF)}
    monkeypatch.setattr(client, "_environment", lambda: environment)
    found = verify(report["path"])
    assert found.problems == ()
    assert found.counts["frames"] < found.counts["threads"]


def test_its_end_is_not_too_early(app: Running, tmp_path: Path) -> None:
    words = ("-mm", "--json", "-e", "1", "-t", "-n", "2", "-s", "1000")
    with started(*words, app.pid, cwd=tmp_path) as own:
        await_line(own, "waiting in process")
        app.ask("caught rare")
        app.ask("caught rare")
        tell(app, "end exit")
        found = reports(own)
    assert [report["trigger"] for report in found] == ["exception", "exit"]


def test_a_target_that_ends_without_the_moment(app: Running, tmp_path: Path) -> None:
    with started("-mm", "--maxmem", 1_000_000, app.pid, cwd=tmp_path) as own:
        await_line(own, "waiting in process")
        app.process.kill()
        app.process.wait()
        _, err = own.communicate(timeout=DEADLINE_S)
    assert own.returncode == 3
    assert "ended before anything came that was waited for" in err


def test_a_file_that_cannot_be_written_is_told_before_the_wait(
    app: Running, tmp_path: Path
) -> None:
    (tmp_path / "there.dmp").touch()
    for place in ("none/x.dmp", "there.dmp"):
        done = minidumper("-mm", "-t", "-o", place, app.pid, cwd=tmp_path)
        assert done.returncode == 1
        assert "waiting in process" not in done.stderr
        assert place in done.stderr


def test_who_hears_of_it_may_go_away(app: Running, tmp_path: Path) -> None:
    with started("-mm", "--json", "-l", "-e", app.pid, cwd=tmp_path) as own:
        await_line(own, "waiting in process")
        assert own.stdout
        assert own.stderr
        own.stderr.close()
        app.ask("caught rare")
        app.ask("caught null")
        tell(app, "end unhandled")
        (report,) = json.loads(own.stdout.read())
        assert own.wait(DEADLINE_S) == 0
    assert report["trigger"] == "exception"


def test_ctrl_c_lets_a_held_process_go(app: Running, tmp_path: Path) -> None:
    with started("-mm", "-e", "-t", app.pid, cwd=tmp_path) as own:
        await_line(own, "waiting in process")
        assert "TracerPid:\t0\n" not in Path(f"/proc/{app.pid}/status").read_text()
        own.send_signal(signal.SIGINT)
        assert own.wait(DEADLINE_S) == 130
    assert_well(app)


def test_launched_its_console_and_exit_code_are_its_own(tmp_path: Path) -> None:
    program = targets.command("Faults", "10.0.14")
    done = launch("-mm", "-t", program=program, cwd=tmp_path, typed="alive\nend exit\n")
    assert done.returncode == 7, done.stderr
    ready, alive = done.stdout.splitlines()
    assert ready.startswith("ready ")
    assert alive == "alive"
    assert str(tmp_path) in done.stderr


def test_launched_a_dll_is_run_with_dotnet(tmp_path: Path) -> None:
    dll = targets.built() / "Faults" / "release" / "Faults.dll"
    done = launch("-mm", "-t", program=[tmp_path, dll], cwd=tmp_path, typed="end exit\n")
    assert done.returncode == 7, done.stderr
    assert [path.name[:7] for path in tmp_path.iterdir()] == ["Faults_"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("no-such-program", "there is no program no-such-program"),
        ("/etc/passwd", "/etc/passwd is not executable"),
    ],
)
def test_a_program_that_cannot_be_run(program: str, said: str, tmp_path: Path) -> None:
    done = launch("-mm", "-t", program=[program], cwd=tmp_path)
    assert done.returncode == 3
    assert said in done.stderr


def test_launched_with_a_memory_limit(tmp_path: Path) -> None:
    """It becomes another program than the one that it is started with, and a third."""
    program = ("sh", "-c", 'exec "$@"', "sh", *targets.command("Faults", "10.0.14"))
    with started(
        *("-mm", "--maxmem", 20, "-s", 0, "-x", *program),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        env=runtimes.dotnet_environment("10.0.14"),
    ) as own:
        await_line(own, "(Faults), .NET 10.0.14")
        own.communicate("end exit\n", timeout=DEADLINE_S)
    assert own.returncode == 7


def test_launched_with_a_memory_limit_that_is_not_met(tmp_path: Path) -> None:
    program = ["sh", "-c", "sleep 0.5; exit 4"]
    done = launch("-mm", "--maxmem", "100000", program=program, cwd=tmp_path)
    assert done.returncode == 4
    assert "sh ended; 0 of 1 dumps taken" in done.stderr


def test_a_process_that_is_killed_as_it_is_to_be_watched() -> None:
    with subprocess.Popen(["sleep", "60"]) as process, platforms.open_target(process.pid) as target:
        process.kill()
        while processes.state(process.pid) != "Z":
            pass
        with pytest.raises(TargetExitedError):
            platforms.watch(target, Watched(), guardian=find_host().guardian)


def test_a_name_that_has_not_begun(tmp_path: Path) -> None:
    with started("-mm", "--json", "-w", "Faults", cwd=tmp_path) as own:
        await_line(own, "waiting for a process named Faults")
        with running("Faults") as app:
            out, err = own.communicate(timeout=DEADLINE_S)
            assert own.returncode == 0, err
            assert json.loads(out)["pid"] == app.pid
            assert_well(app)


def test_the_library_in_an_event_loop(app: Running, tmp_path: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def watch() -> list[str]:
        ticking = asyncio.create_task(tick())
        monitor = Monitor(app.pid, DumpMode.MINIMAL, f"{tmp_path}/", count=2, interval_s=0.1)
        monitor.on_memory(above_mb=1)
        paths = [report.path async for report in monitor]
        ticking.cancel()
        return paths

    paths = asyncio.run(watch())
    assert sorted(map(Path, paths)) == sorted(tmp_path.iterdir())
    assert len(paths) == 2
    assert ticks > 10
    assert_well(app)


def test_a_cancelled_wait_ends(app: Running, tmp_path: Path) -> None:
    async def watch() -> None:
        monitor = Monitor(app.pid, DumpMode.MINIMAL, f"{tmp_path}/")
        monitor.on_exit()
        async with asyncio.timeout(3):
            async for _ in monitor:
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(watch())
    assert_well(app)


def test_nothing_to_wait_for(app: Running) -> None:
    with pytest.raises(UsageError, match="nothing was said"):
        next(Monitor(app.pid).run())
