"""Whether a process can bear to be forked: its own state, and the limits that it lives under."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import CaptureError
from . import libc, procfs
from .limits import available_memory, cgroup_headroom, cgroup_pids_headroom

STAGE = "snapshot"
"""The stage that errors and warnings about snapshots name."""

SPARE_PIDS = 16
"""Processes and threads that must still be allowed; a fork takes two for a moment, then one."""

SPARE_MEMORY = 64 << 20
"""Bytes that the target must be able to write while its copy lives, each page being copied then;
an eighth of its memory where that is more."""

_UNBOUND_USER = 0  # RLIMIT_NPROC does not bind root, setrlimit(2)


def check_headroom(pid: int) -> None:
    """Refuse a process that a fork could harm; nothing of it is touched.

    Raises:
        CaptureError: with the reason.
    """
    status = procfs.parse_status(Path(f"/proc/{pid}/status").read_text("utf-8", "replace"))
    if status.seccomp:
        raise _refused("the target has a seccomp filter, which may end it when it forks")
    if status.shadow_stack:
        raise _refused("the target has shadow stacks, which forbid signal frames made by others")
    if not libc.has_close_range():
        raise _refused(f"Linux {os.uname().release} has no close_range(2), which 5.9 brought")
    _check_memory(status, Path(f"/proc/{pid}/cgroup"))
    _check_pids(pid, status.uid)


def _refused(reason: str) -> CaptureError:
    return CaptureError(f"no snapshot: {reason}", stage=STAGE)


def _check_memory(status: procfs.Status, cgroup: Path) -> None:
    need = status.page_tables + max(SPARE_MEMORY, status.anonymous // 8)
    free, whose = min(
        (available_memory(), "this machine"),
        cgroup_headroom(cgroup) or (2**63, ""),
    )
    if free < need:
        raise _refused(f"{whose} has {free / 1e6:.0f} MB left, {need / 1e6:.0f} MB may be needed")


def _check_pids(pid: int, uid: int) -> None:
    room = cgroup_pids_headroom(Path(f"/proc/{pid}/cgroup"))
    if room and room[0] < SPARE_PIDS:
        raise _refused(f"{room[1]} allows only {room[0]} more processes (pids.max)")
    limit = _process_limit(pid)
    if uid == _UNBOUND_USER or limit is None:
        return
    left = limit - _tasks_of(uid)
    if left < SPARE_PIDS:
        raise _refused(f"user {uid} may start only {left} more processes (RLIMIT_NPROC)")


def _process_limit(pid: int) -> int | None:
    """RLIMIT_NPROC of a process, None for no limit."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max processes"):
            soft = line.split()[2]
            return int(soft) if soft.isdecimal() else None
    return None


def _tasks_of(uid: int) -> int:
    """The threads of a user, which RLIMIT_NPROC counts."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return count
