"""Waiting with fewer rights: it works, or the gate that is closed is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import gates, seccomp
from tests.support.commands import minidumper, started
from tests.support.targets import running
from tests.support.waiting import await_line, reports, tell

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host", "perf-breakpoints", "root")

NO_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
"""Root is a user like any other then, who can run this Python wherever it is."""
IN_A_CONTAINER = [
    "setpriv",
    # Those of Docker, capabilities(7): no SYS_PTRACE, PERFMON, BPF, SYS_ADMIN.
    "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,"
    "+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap",
    "--inh-caps=-all",
    "--",
]
RARE = "Faults.RareException"


@pytest.mark.parametrize(
    ("prefix", "choice"),
    [
        (NO_RIGHTS, ("-e", "1", "--type", RARE)),
        (IN_A_CONTAINER, ("-e", "1", "--type", RARE)),
        (IN_A_CONTAINER, ("-e", "2")),
        (NO_RIGHTS, ("-t",)),
    ],
    ids=["same user, -e 1", "container, -e 1", "container, -e 2", "same user, -t"],
)
def test_with_the_rights_of_the_target(
    choice: Sequence[str], prefix: Sequence[str], tmp_path: Path
) -> None:
    with running("Faults", prefix=prefix) as app:
        words = ("-mm", "--json", *choice, str(app.pid))
        with started(*words, cwd=tmp_path, prefix=prefix) as own:
            await_line(own, "waiting in process")
            if "1" in choice:
                app.ask("caught rare")
            else:
                tell(app, "end unhandled" if "-e" in choice else "end exit")
            (report,) = reports(own)
    assert report["trigger"] == ("exit" if "-t" in choice else "exception")


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


def test_without_perf_events(tmp_path: Path) -> None:
    """Docker's default profile: no exceptions where they are thrown, but unhandled ones."""
    prefix = seccomp.prefix(seccomp.PERF_EVENT_OPEN)
    with running("Faults") as app:
        done = minidumper("-mm", "-e", "1", app.pid, cwd=tmp_path, prefix=prefix)
        assert done.returncode == 1
        assert "no hardware breakpoint can be set: Operation not permitted" in done.stderr
        assert "CAP_PERFMON, and a seccomp profile that allows it" in done.stderr
        with started("-mm", "--json", "-e", "-t", app.pid, cwd=tmp_path, prefix=prefix) as own:
            await_line(own, "waiting in process")
            tell(app, "end unhandled")
            (report,) = reports(own)
    assert report["exception"]["type"] == RARE
