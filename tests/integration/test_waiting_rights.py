"""Waiting with fewer rights: it works, or the gate that is closed is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import gates, seccomp
from tests.support.commands import minidumper, started
from tests.support.targets import command, running
from tests.support.waiting import await_line, launch, reports, tell

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host", "perf-breakpoints", "root")

NOBODY = 65534
# Test runners live where only root may enter: so much of root is left.
ANOTHER_USER = [
    *("setpriv", f"--reuid={NOBODY}", "--clear-groups", "--bounding-set=-all,+dac_read_search"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--"),
]
IN_A_CONTAINER = [
    "setpriv",
    # Those of Docker, capabilities(7): no SYS_PTRACE, PERFMON, BPF, SYS_ADMIN.
    "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,"
    "+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap",
    "--inh-caps=-all",
    "--",
]
RARE = "Faults.RareException"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that everybody may write to."""
    tmp_path.chmod(0o777)
    return tmp_path


@pytest.mark.parametrize("prefix", [ANOTHER_USER, IN_A_CONTAINER], ids=["same user", "container"])
@pytest.mark.parametrize(
    ("choice", "word", "trigger"),
    [
        (("-e", "1", "--type", RARE), "caught rare", "exception"),
        (("-e", "2"), "end unhandled", "exception"),
        (("-t",), "end exit", "exit"),
        (("-l", "-f", "a trace"), "say trace", "output"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_with_the_rights_of_the_target(
    choice: Sequence[str], word: str, trigger: str, prefix: Sequence[str], folder: Path
) -> None:
    with running("Faults", prefix=prefix) as app:
        words = ("-mm", "--json", *choice, str(app.pid))
        with started(*words, cwd=folder, prefix=prefix) as own:
            await_line(own, "waiting in process")
            tell(app, word)
            (report,) = reports(own)
    assert report["trigger"] == trigger
    assert report["warnings"] == []


@pytest.mark.parametrize("prefix", [ANOTHER_USER, IN_A_CONTAINER], ids=["user", "container"])
def test_a_program_of_ones_own(prefix: Sequence[str], folder: Path) -> None:
    program = command("Faults", "10.0.14")
    words = ("-mm", "-e", "1", "-f", "*a rare*", "-o", f"{folder}/")
    done = launch(
        *words, program=program, cwd=folder, typed="caught rare\nend exit\n", prefix=prefix
    )
    assert done.returncode == 7, done.stderr
    assert [path.name[:7] for path in folder.iterdir()] == ["Faults_"]


def test_with_fewer_than_the_target(tmp_path: Path) -> None:
    with running("Faults") as app:
        done = minidumper("-mm", "-e", "1", app.pid, cwd=tmp_path, prefix=IN_A_CONTAINER)
    assert done.returncode == 4
    assert "access to process" in done.stderr
    assert "in a container add --cap-add=SYS_PTRACE" in done.stderr


def test_a_program_that_cannot_be_watched_never_begins(tmp_path: Path) -> None:
    prefix = seccomp.prefix(seccomp.PTRACE)
    words = ("-ma", "-t", "-x", "touch", tmp_path / "begun")
    done = minidumper(*words, cwd=tmp_path, prefix=prefix)
    assert done.returncode == 4
    assert "seccomp" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_process_that_could_not_be_stopped_at_the_limit_is_told_at_once(tmp_path: Path) -> None:
    prefix = seccomp.prefix(seccomp.PTRACE)
    with running("Faults") as app:
        words = ("-mm", "--maxmem", 1_000_000, app.pid)
        done = minidumper(*words, cwd=tmp_path, prefix=prefix)
    assert done.returncode == 4
    assert "seccomp" in done.stderr


def test_without_perf_events(tmp_path: Path) -> None:
    """Docker's default profile: what needs none comes as ever."""
    prefix = seccomp.prefix(seccomp.PERF_EVENT_OPEN)
    with (
        running("Faults") as app,
        started("-mm", "--json", "-e", "-t", app.pid, cwd=tmp_path, prefix=prefix) as own,
    ):
        await_line(own, "waiting in process")
        tell(app, "end unhandled")
        (report,) = reports(own)
    assert report["exception"]["type"] == RARE


def test_of_another_user(folder: Path) -> None:
    with running("Faults") as app:
        done = minidumper("-mm", "-e", "2", app.pid, cwd=folder, prefix=ANOTHER_USER)
    assert done.returncode == 4
    assert f"it runs as user 0, minidumper as user {NOBODY}" in done.stderr
    assert "(sudo -u '#0' minidumper …) or as root" in done.stderr
