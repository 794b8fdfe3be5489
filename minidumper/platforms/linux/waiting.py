"""What a wait takes besides the guardian: memory in use, and programs launched under watch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...errors import TargetExitedError, TargetNotFoundError
from .backend import restore_oom_score
from .procfs import parse_status

# The shell stops itself, and is seized before it becomes the program. What it would say of a
# program that does not start is said by us.
_STOP_FIRST = 'kill -STOP $$; exec "$@"'


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

    def __init__(self, command: Sequence[str]) -> None:
        """Start it, stopped.

        Raises:
            TargetNotFoundError: there is no such program.
        """
        if shutil.which(command[0]) is None:
            raise TargetNotFoundError(
                f"there is no program {command[0]}",
                name=command[0],
                hint="give its path, or see what PATH has",
            )
        self._process = subprocess.Popen(["/bin/sh", "-c", _STOP_FIRST, "sh", *command])
        self.pid = self._process.pid
        restore_oom_score(self.pid)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go(self) -> None:
        """Let it begin."""
        os.kill(self.pid, signal.SIGCONT)

    def exit_code(self) -> int | None:
        """How it ended, as a shell tells it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def wait(self) -> int:
        """The exit code, when it has ended."""
        code = self._process.wait()
        return code if code >= 0 else 128 - code
