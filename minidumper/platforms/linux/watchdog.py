"""Frees a target whose debugger we were when we are killed: a process that outlives us.

A debugger that dies leaves the target stopped, or to be stopped at its next exception, for ever.
The helper that is the debugger ends when we are gone, but may itself be killed, or hang.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import NoReturn

from ...errors import CaptureError, MiniDumperError
from .debugtransport import rescue

WATCHDOG_WORD = "_watchdog"
"""The first word by which a frozen program (dotnet/freeze/program.py) is its own watchdog."""

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from minidumper.platforms.linux.watchdog import main
main(sys.argv[1])
"""
_READY = _DONE = b"."
_HELPER_S = 5.0
"""Seconds in which the helper ends by itself."""
_ANSWER_S = 10.0


class Watchdog:
    """The process that watches over us; leave it, in `with`, once the target was let go."""

    def __init__(self, pid: int, helper: int) -> None:
        """Start it; `helper` is the process that is to be the debugger of process `pid`.

        Raises:
            CaptureError: it does not watch.
        """
        pidfd = os.pidfd_open(helper)
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_ANSWER_S)
        try:
            options = {
                "path": [os.path.abspath(folder) for folder in sys.path],
                "pid": pid,
                "helper": pidfd,
                "socket": theirs.fileno(),
            }
            self._process = subprocess.Popen(
                [*_command(), json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},  # nothing of the caller's: its variables can be the target's own
                cwd="/",
                pass_fds=(theirs.fileno(), pidfd),
                start_new_session=True,  # what ends a terminal's processes does not end it
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
            os.close(pidfd)
        try:
            ready = self._socket.recv(1)
        except OSError:
            ready = b""
        if ready != _READY:
            self._end(0)
            raise CaptureError("the watchdog of the process's debugger ended", stage="watch")

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *error: object) -> None:
        if error == (None, None, None):
            with suppress(OSError):  # it was killed
                self._socket.send(_DONE)
        self._end(_ANSWER_S)

    def _end(self, timeout_s: float) -> None:
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self._process.kill()
        self._process.wait()


def main(text: str) -> NoReturn:
    """Wait for the end of those who started us, and free the target where they have not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what ends them may come to us, too
    options = json.loads(text)
    target = os.pidfd_open(options["pid"])
    with suppress(OSError):  # nobody is there any more
        os.write(options["socket"], _READY)
    if os.read(options["socket"], 1) != _DONE:
        helper = options["helper"]
        if not select.select([helper], [], [], _HELPER_S)[0]:
            signal.pidfd_send_signal(helper, signal.SIGKILL)
            select.select([helper], [], [])
        if not select.select([target], [], [], 0)[0]:
            with suppress(MiniDumperError):
                rescue(options["pid"])
    sys.exit()


def _command() -> list[str]:
    if getattr(sys, "frozen", False):  # there is no Python but the program itself
        return [sys.executable, WATCHDOG_WORD]
    return [sys.executable, "-I", "-S", "-c", _BOOT]
