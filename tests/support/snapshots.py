"""Programs to take snapshots of."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

from minidumper.platforms.copies import COPY_LIMIT
from minidumper.platforms.linux.process import LinuxProcess
from minidumper.platforms.linux.snapshot import (
    HOLD_S,
    Snapshot,
    prepare_snapshot,
    take_snapshot,
)

from . import paths

_FILTER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
# prctl(2): PR_SET_NO_NEW_PRIVS 38; PR_SET_SECCOMP 22, SECCOMP_MODE_FILTER 2
allow = ctypes.create_string_buffer(bytes.fromhex("060000000000ff7f"))  # ret ALLOW
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(1, ctypes.addressof(allow))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
FILTERED = (sys.executable, "-c", _FILTER)
"""Starts a program under a seccomp filter, which keeps it from being snapshot."""

SOURCE = Path(__file__).with_name("snapshot_subject.c")


class Program:
    """A program that said "ready" and answers on its standard output."""

    def __init__(self, process: subprocess.Popen[str], ready: str) -> None:
        self.process = process
        self.words = ready.split()[1:]
        below = psutil.Process(process.pid).children(recursive=True)  # what a prefix started
        self.pid = below[-1].pid if below else process.pid

    def ask(self, line: str) -> str:
        """The answer to a line."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def finish(self) -> None:
        """End its input, and see that it ends well: it then has found nothing wrong."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        last = self.process.stdout.read()
        assert last.startswith("ok"), last
        assert self.process.wait() == 0


@contextmanager
def started(command: Sequence[str | Path], user: str | None = None) -> Iterator[Program]:
    """A program once it is ready; killed and reaped at the end, with what it started."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=user
    ) as process:
        family: list[psutil.Process] = []
        try:
            assert process.stdout
            ready = process.stdout.readline()
            family = psutil.Process(process.pid).children(recursive=True)
            assert ready.startswith("ready"), ready
            yield Program(process, ready)
        finally:
            process.kill()
            for below in family:
                with suppress(psutil.NoSuchProcess):
                    below.kill()
            psutil.wait_procs(family)


def subject_program() -> Path:
    """snapshot_subject.c, compiled."""
    name = f"snapshot-subject-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"

    def compile_into(folder: Path) -> None:
        options = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
        subprocess.run(["gcc", *options, SOURCE, "-o", folder / "snapshot_subject"], check=True)

    return paths.prepared(name, compile_into) / "snapshot_subject"


def subject(
    *kinds: str, prefix: Sequence[str] = (), user: str | None = None
) -> AbstractContextManager[Program]:
    """snapshot_subject.c with a thread of each kind."""
    return started([*prefix, subject_program(), "1", *kinds], user)


def python(source: str) -> AbstractContextManager[Program]:
    """A Python program; it prints "ready" first."""
    return started([sys.executable, "-c", textwrap.dedent(source)])


@contextmanager
def snapshot_of(
    pid: int, *, hold_s: float = HOLD_S, copy_limit: int = COPY_LIMIT
) -> Iterator[Snapshot]:
    """A snapshot of a process that runs on."""
    with LinuxProcess(pid) as process:
        gadgets = prepare_snapshot(process)
        with process.stopped():
            snapshot = take_snapshot(process, gadgets, hold_s=hold_s, copy_limit=copy_limit)
        with snapshot:
            yield snapshot
