"""The command line on real processes: results, exit codes, signals, a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from minidumper.dumpfile import open_dump
from tests.support import commands, runtimes
from tests.support.commands import minidumper as cli
from tests.support.targets import Running, running

pytestmark = pytest.mark.gate("linux", "ptrace")

WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
BOUND_BY_MODES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
NOBODY = 65534


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> bool:
    """Whether it ended with `code`, one line that says it, and at most a hint."""
    error, *more = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert error.startswith("minidumper: error: ")
    assert [line for line in more if not line.startswith("hint: ")] == []
    for text in said:
        assert text in done.stderr
    assert done.stdout == ""
    return True


@contextlib.contextmanager
def sleeper(folder: Path, name: str = "sleeper") -> Iterator[int]:
    """A process without .NET; it must live on to the end."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    if not program.exists():
        shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "600"]) as process:
        try:
            yield process.pid
            assert process.poll() is None, "the target is gone"
        finally:
            process.kill()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    with sleeper(tmp_path) as pid:
        yield pid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the dumps go."""
    where = tmp_path / "dumps"
    where.mkdir()
    return where


@pytest.fixture(scope="module")
def dotnet() -> Iterator[Running]:
    with running("Clock") as app:
        yield app


def test_a_full_dump_of_any_process(target: int, folder: Path) -> None:
    done = cli("-ma", target, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = folder.iterdir()
    assert path.name.startswith("sleeper_")
    assert path.suffix == ".dmp"
    assert path.stat().st_mode & 0o777 == 0o600
    first, second, *_ = done.stdout.splitlines()
    assert first == str(path)
    assert second == f"  full dump of process {target} (sleeper)"
    assert "the process stood still for" in done.stdout
    with open_dump(path) as dump:
        assert dump.pid == target


def test_json_is_one_object_for_one_dump(target: int, folder: Path) -> None:
    done = cli("-ma", "--json", "-o", "x.dmp", target, cwd=folder)
    report = json.loads(done.stdout)
    path = folder / "x.dmp"
    assert (done.returncode, done.stderr) == (0, "")
    assert (report["path"], report["pid"], report["mode"]) == (str(path), target, "full")
    assert report["size"] == path.stat().st_size
    assert report["disk_size"] == path.stat().st_blocks * 512
    assert report["totals"]["ALL_MEMORY"] > 0


def test_json_is_an_array_for_several_dumps(target: int, folder: Path) -> None:
    done = cli("-mm", "-ma", "-n", 2, "-s", 0, "--json", target, cwd=folder)
    reports = json.loads(done.stdout)
    assert done.returncode == 0
    assert [report["mode"] for report in reports] == ["minimal", "full"] * 2
    assert sorted(report["path"] for report in reports) == sorted(map(str, folder.iterdir()))


def test_async(target: int, folder: Path) -> None:
    done = cli("-ma", "--async", "--json", "-o", "x.dmp", target, cwd=folder)
    assert json.loads(done.stdout)["way"] == "snapshot"
    with open_dump(folder / "x.dmp") as dump:
        assert dump.threads()


def test_quiet_tells_nothing(target: int, folder: Path) -> None:
    done = cli("-ma", "-q", target, folder / "x.dmp", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "x.dmp").exists()


def test_verbose_tells_the_steps(target: int, folder: Path) -> None:
    done = cli("-ma", "-v", target, cwd=folder)
    assert done.returncode == 0
    assert "stood still" in done.stderr
    assert all(line.startswith("minidumper: ") for line in done.stderr.splitlines())


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">&- 2>/dev/null"])
def test_streams_that_are_closed(target: int, folder: Path, closed: str) -> None:
    done = cli("-ma", target, cwd=folder, prefix=["sh", "-c", f'exec "$@" {closed}', "sh"])
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = folder.iterdir()
    with open_dump(path) as dump:
        assert dump.pid == target


def test_a_path_that_is_no_text(target: int, folder: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (folder / odd).mkdir()
    english = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = cli("-ma", "-o", odd, target, cwd=folder, env=english)
    assert (done.returncode, done.stderr) == (0, "")
    done = cli("-ma", "--json", "-o", odd, target, cwd=folder, env=english)
    assert Path(json.loads(done.stdout)["path"]).parent == folder / odd
    assert len(list((folder / odd).iterdir())) == 2


@pytest.mark.parametrize("pattern", ["md-only-one", "MD-only-*.exe", "md-????-one"])
def test_a_process_by_name(tmp_path: Path, folder: Path, pattern: str) -> None:
    with sleeper(tmp_path, "md-only-one") as pid:
        done = cli("-ma", "--json", pattern, cwd=folder)
    assert json.loads(done.stdout)["pid"] == pid


def test_a_name_of_several_processes_lists_them(tmp_path: Path, folder: Path) -> None:
    with sleeper(tmp_path, "md-twin") as first, sleeper(tmp_path, "md-twin") as second:
        done = cli("-ma", "md-twin", cwd=folder)
    assert done.returncode == 2
    error, *listed, hint = done.stderr.splitlines()
    assert error == "minidumper: error: 2 processes are named md-twin"
    assert {int(line.split()[0]) for line in listed} == {first, second}
    assert hint.startswith("hint: ")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("process", ["999999999", "md-nobody-is-called-so"])
def test_no_such_process(folder: Path, process: str) -> None:
    assert refused(cli("-mh", process, cwd=folder), 3, process)
    assert not list(folder.iterdir())


def test_no_dotnet_process(target: int, folder: Path) -> None:
    assert refused(cli("-mh", target, cwd=folder), 1, "no .NET runtime in it", "-ma")
    assert not list(folder.iterdir())


def test_a_file_that_exists(target: int, folder: Path) -> None:
    path = folder / "x.dmp"
    path.write_text("mine")
    assert refused(cli("-ma", "-o", path, target, cwd=folder), 1, "exists already", "--overwrite")
    assert path.read_text() == "mine"
    assert cli("-ma", "--overwrite", "-o", path, target, cwd=folder).returncode == 0
    assert path.stat().st_size > 4096
    assert list(folder.iterdir()) == [path]


def test_one_file_for_several_dumps(target: int, folder: Path) -> None:
    for words in (["-mm", "-ma"], ["-ma", "-n", "2"]):
        done = cli(*words, target, "x.dmp", cwd=folder)
        assert refused(done, 2, "one file for several dumps")
    assert not list(folder.iterdir())


def test_a_missing_folder(target: int, folder: Path) -> None:
    done = cli("-ma", "-o", "missing/x.dmp", target, cwd=folder)
    assert refused(done, 1, "No such file or directory", "create the folder first")
    assert not list(folder.iterdir())


@pytest.mark.gate("root")
def test_a_folder_that_may_not_be_written(target: int, folder: Path) -> None:
    folder.chmod(0o555)
    done = cli("-ma", target, cwd=folder, prefix=BOUND_BY_MODES)
    assert refused(done, 1, "Permission denied", "another folder")
    assert not list(folder.iterdir())


@pytest.mark.gate("root")
def test_a_process_of_another_user(folder: Path) -> None:
    with subprocess.Popen(["sleep", "600"], user=NOBODY, group=NOBODY, extra_groups=[]) as process:
        try:
            done = cli("-ma", process.pid, cwd=folder, prefix=WITHOUT_CAPABILITIES)
        finally:
            process.kill()
    assert refused(done, 4, f"it runs as user {NOBODY}", "run minidumper as that user (sudo -u ")
    assert not list(folder.iterdir())


@pytest.mark.gate("unshare")
def test_a_full_disk(target: int, folder: Path) -> None:
    script = 'mount -t tmpfs -o size=256k none . && "$@"; code=$?; ls -A; exit $code'
    prefix = ["unshare", "-m", "sh", "-c", f"cd {folder} && {script}", "sh"]
    done = cli("-ma", "-o", folder / "x.dmp", target, cwd=folder, prefix=prefix)
    assert refused(done, 1, "not enough disk", "another folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_the_target_running(target: int, folder: Path, number: int) -> None:
    with commands.started("-ma", "-n", 2, "-s", 600, target, cwd=folder) as process:
        assert process.stderr
        assert process.stderr.readline() == "minidumper: next dump in 600 s; Ctrl+C ends\n"
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines() == [
        f"minidumper: process {target} runs on",
        "minidumper: interrupted",
    ]
    (path,) = folder.iterdir()
    assert out.startswith(f"{path}\n")


def test_a_target_that_ends_between_two_dumps(folder: Path) -> None:
    with (
        subprocess.Popen(["sleep", "600"]) as target,
        commands.started("-ma", "-n", 2, "-s", 1, target.pid, cwd=folder) as process,
    ):
        assert process.stderr
        assert process.stderr.readline() == "minidumper: next dump in 1 s; Ctrl+C ends\n"
        target.kill()
        target.wait()
        out, err = process.communicate()
    assert process.returncode == 3
    assert err == f"minidumper: error: process {target.pid} ended\n"
    (path,) = folder.iterdir()
    assert out.startswith(f"{path}\n")


def test_memory_runs_out_at_our_cost(target: int, folder: Path) -> None:
    with commands.started("-ma", "-n", 2, "-s", 600, target, cwd=folder) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"
        finally:
            process.kill()


def on_a_terminal(words: Sequence[str | int | Path], cwd: Path) -> tuple[int, str]:
    """Exit code and standard error of a command line whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*commands.PROGRAM, *map(str, words)],
        cwd=cwd,
        env=commands.ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = bytearray()
        with contextlib.suppress(OSError):  # EIO: the last descriptor of their side is closed
            while part := os.read(ours, 65536):
                said += part
        os.close(ours)
    return process.returncode, said.decode()


def test_progress_on_a_terminal(folder: Path) -> None:
    large = "import os, sys\nheld = os.urandom(100_000_000)\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", large], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            code, said = on_a_terminal(["-ma", process.pid], folder)
            assert code == 0
            assert "dumping python" in said
            assert re.search(r"\d/1\d\d\.\d MB", said), said
            assert re.search(r"\d [MG]B/s", said), said
            assert on_a_terminal(["-ma", "-q", process.pid], folder) == (0, "")
        finally:
            process.kill()


@pytest.mark.gate("toolchain", "embedded-host")
def test_three_modes_of_one_stop(dotnet: Running, folder: Path) -> None:
    done = cli("-mm", "-mh", "-ma", "--json", dotnet.pid, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    minimal, heap, full = json.loads(done.stdout)
    assert minimal["size"] < heap["size"] < full["size"]
    assert minimal["pause_s"] == heap["pause_s"] == full["pause_s"]
    assert {"GC_HEAP", "STACK", "METADATA", "DAC_READ"} <= heap["totals"].keys()
    assert "GC_HEAP" not in minimal["totals"]
    assert dotnet.alive()
    verified = cli("verify", "--json", heap["path"], cwd=folder)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert json.loads(verified.stdout)["problems"] == []


@pytest.mark.gate("toolchain", "embedded-host")
def test_by_the_name_of_the_dll(dotnet: Running, folder: Path) -> None:
    done = cli("-mm", "Clock.dll", cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    assert path.name.startswith("Clock_")


@pytest.mark.gate("toolchain", "embedded-host")
def test_verify_finds_what_is_missing(dotnet: Running, folder: Path) -> None:
    createdump = str(runtimes.framework("10.0.14") / "createdump")
    subprocess.run(
        [createdump, "--normal", "-f", "x.dmp", str(dotnet.pid)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    done = cli("verify", "x.dmp", cwd=folder)
    assert done.returncode == 5
    assert "\n  problem: " in done.stdout
    assert done.stderr == "minidumper: error: x.dmp cannot be read in full\n"


@pytest.mark.gate("toolchain", "embedded-host")
def test_there_is_nothing_to_verify_in_a_minimal_dump(dotnet: Running, folder: Path) -> None:
    assert cli("-mm", "-o", "x.dmp", dotnet.pid, cwd=folder).returncode == 0
    assert refused(cli("verify", "x.dmp", cwd=folder), 2, "x.dmp is a minimal dump", "-mh")


def test_verify_of_a_process_without_dotnet(target: int, folder: Path) -> None:
    assert cli("-ma", "-o", "x.dmp", target, cwd=folder).returncode == 0
    done = cli("verify", "--json", "x.dmp", cwd=folder)
    assert done.returncode == 5
    assert json.loads(done.stdout)["problems"] == ["no .NET runtime is in the dump"]


def test_verify_of_what_is_no_dump(folder: Path) -> None:
    (folder / "x.dmp").write_text("this is no dump")
    assert refused(cli("verify", "x.dmp", cwd=folder), 1, "x.dmp")
    assert refused(cli("verify", "y.dmp", cwd=folder), 1, "y.dmp", "No such file")


@pytest.mark.gate("embedded-host")
def test_demo(folder: Path) -> None:
    done = cli("demo", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "minimal" in done.stdout
    assert "createdump" in done.stdout
    assert not list(folder.iterdir())
    done = cli("demo", "--json", "-o", folder, cwd=folder)
    report = json.loads(done.stdout)
    assert report["verify"]["problems"] == []
    assert sorted(dump["path"] for dump in report["dumps"]) == sorted(map(str, folder.iterdir()))
