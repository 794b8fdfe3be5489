"""What a wait takes besides the guardian: memory in use, and programs launched under watch."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from ...errors import TargetExitedError, TargetNotFoundError
from .backend import restore_oom_score
from .console import Console
from .procfs import parse_status

_LOG = logging.getLogger(__name__)

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_GATE = 3
# The shell is seized before it becomes the program. It waits at a pipe, which ends if we die before
# that: then so does it.
_BEGIN_WHEN_TOLD = f'read _ <&{_GATE} || exit; exec {_GATE}<&-; exec "$@"'


def commit_charge(pid: int) -> int:
    """Bytes of resident and swapped memory.

    Raises:
        TargetExitedError: the process is gone.
    """
    try:
        status = parse_status(Path(f"/proc/{pid}/status").read_text("utf-8", "replace"))
    except (FileNotFoundError, ProcessLookupError):
        raise TargetExitedError(f"process {pid} ended", pid=pid) from None
    return status.commit


def dumps_itself(pid: int) -> bool:
    """Whether .NET runs createdump in that process at a crash (DOTNET_DbgEnableMiniDump)."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(name + b"_DbgEnableMiniDump=1" in variables for name in (b"DOTNET", b"COMPlus"))


class Launched:
    """A program that waits for `go()` before its first instruction."""

    def __init__(self, command: Sequence[str], *, new_console: bool) -> None:
        """Start it; with `new_console` in a session and on a pseudo terminal of its own.

        Raises:
            TargetNotFoundError: there is no such program.
        """
        if shutil.which(command[0]) is None:
            raise TargetNotFoundError(
                f"{command[0]} is not executable"
                if os.path.isfile(command[0])
                else f"there is no program {command[0]}",
                name=command[0],
                hint="give its path, or see what PATH has",
            )
        self._console = Console() if new_console else None
        gate, self._gate = os.pipe()
        try:
            self.pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _BEGIN_WHEN_TOLD, "sh", *command],
                os.environ,
                file_actions=[
                    *_standard_files(self._console),
                    (os.POSIX_SPAWN_DUP2, gate, _GATE),
                ],
                setsid=new_console,
                setsigdef=_IGNORED_BY_PYTHON,
            )
        finally:
            os.close(gate)
            if self._console:
                self._console.hand_over()
        self._process = psutil.Process(self.pid)
        restore_oom_score(self.pid)
        if self._console:
            _LOG.info("process %d has the terminal %s", self.pid, self._console.path)

    def go(self) -> None:
        """Let it begin."""
        os.write(self._gate, b"\n")
        os.close(self._gate)

    def give_up(self) -> None:
        """End it before it has begun."""
        os.close(self._gate)
        self._process.wait()

    def wait(self) -> int:
        """The exit code, when it has ended."""
        code: int = self._process.wait()
        if self._console:
            self._console.await_last_words()
        return code if code >= 0 else 128 - code

    def leave(self) -> None:
        """Have it outlive us, who end now.

        Where we are the first of a terminal (ssh -t, docker exec -it), what is in its foreground is
        sent a SIGHUP at our end, _exit(2): that is then a process which has ended.
        """
        if self._console or os.getsid(0) != os.getpid():
            return
        with suppress(OSError):  # there is no terminal
            terminal = os.open(os.ctermid(), os.O_RDWR)
            other = os.posix_spawn("/bin/sh", ["sh", "-c", "exit"], {}, setpgroup=0)
            os.tcsetpgrp(terminal, other)


def _standard_files(console: Console | None) -> list[tuple[int | str, ...]]:
    """A session's leader has for its own the first terminal that it opens: tty_ioctl(4)."""
    if console is None:
        return []
    opens = (os.POSIX_SPAWN_OPEN, 0, console.path, os.O_RDWR, 0)
    return [opens, *((os.POSIX_SPAWN_DUP2, 0, other) for other in (1, 2))]
