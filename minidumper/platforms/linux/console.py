"""A pseudo terminal of a launched program's own, shown where we run."""

from __future__ import annotations

import os
import termios
import threading
from contextlib import suppress

import psutil

# Who holds the other side must outlive us, or the program would get a SIGHUP; and must read on
# where nobody sees what it shows, or the program would stand still.
_SHOW = 'trap "" PIPE; cat; exec cat >/dev/null'
_LAST_WORDS_S = 1.0
"""Seconds for what was shown last: a program left in the background keeps a terminal open."""

_END_OF_INPUT = b"\x04"  # VEOF, termios(3)
_BUFFER = 4096
_OUTPUT_FLAGS, _LOCAL_FLAGS = 1, 3  # places in what tcgetattr returns
_ROWS_AND_COLUMNS = (24, 80)


class Console:
    """What is written there goes to our standard output, and our standard input goes there."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        # Who types sees it on a terminal already, which also knows where a line begins.
        attributes = termios.tcgetattr(self._slave)
        attributes[_OUTPUT_FLAGS] &= ~termios.ONLCR
        attributes[_LOCAL_FLAGS] &= ~termios.ECHO
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        termios.tcsetwinsize(self._slave, _ROWS_AND_COLUMNS)
        shower = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _SHOW],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self._master, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),  # a closed one is an error
            ],
            setsid=True,
        )
        self._shower = psutil.Process(shower)
        threading.Thread(target=self._relay_input, daemon=True).start()

    def hand_over(self) -> None:
        """Leave it to the program, with which it ends."""
        os.close(self._slave)

    def await_last_words(self) -> None:
        """Wait until all that the program wrote has been shown."""
        with suppress(psutil.TimeoutExpired):
            self._shower.wait(_LAST_WORDS_S)

    def _relay_input(self) -> None:
        with suppress(OSError):  # the program has ended
            while data := os.read(0, _BUFFER):
                os.write(self._master, data)
            os.write(self._master, _END_OF_INPUT)
