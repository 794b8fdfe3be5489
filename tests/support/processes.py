"""Processes of a test session: none may stay."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import psutil


def adopt_orphans() -> None:
    """Make this process the parent of those that lose theirs, so that none is out of sight.

    prctl(2): PR_SET_CHILD_SUBREAPER is 36.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def descendants() -> set[psutil.Process]:
    """All processes below this one; none costs one system call."""
    if sys.platform == "linux":
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return set()
    return set(psutil.Process().children(recursive=True))


def end_left_over(before: set[psutil.Process], patience_s: float = 5.0) -> list[str]:
    """Ends what came since `before` and does not end by itself; its pids and command lines.

    `patience_s` is what a process may take whose parent was killed a moment ago.
    """
    _, alive = psutil.wait_procs(descendants() - before, timeout=patience_s)
    left = []
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(f"{process.pid} {' '.join(process.cmdline())}")
            process.kill()
    psutil.wait_procs(alive)
    return left


def state(pid: int) -> str:
    """The states of the threads of `pid`, as in /proc/PID/status (proc(5)): S, R, T, t, …"""
    letters = set()
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            letters.add(_stat(pid, tid))
    return "".join(sorted(letters))


def _stat(pid: int, tid: str) -> str:
    with open(f"/proc/{pid}/task/{tid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0]
