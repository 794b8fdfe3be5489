"""Notices that a process ends, or becomes another: for waits that need not hold it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import psutil

from .. import platforms
from ..target import LiveTarget
from ..watching import EventKind, Rule, TextFilter, WatchEvent

_LOOK_S = 0.1
"""Seconds between two looks for `wake()`."""


class EndWatcher:
    """A Watcher that tells `ENDED` and `EXEC` alone, at which nothing is held."""

    needs_places = False
    tells_modules = False
    advice = ""

    def __init__(self, pid: int) -> None:
        self._woken = threading.Event()
        self._pid = pid
        self._program = self._seen = platforms.program_of(pid)
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._process = None

    def wait(self, timeout_s: float | None) -> WatchEvent | None:
        """The next event; None after so many seconds, or when `wake()` was called."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._woken.is_set():
            left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
            if left <= 0:
                return None
            program = platforms.program_of(self._pid)
            if program is None or self._process is None or not self._process.is_running():
                return WatchEvent(EventKind.ENDED)
            seen, self._seen = self._seen, program
            if program == seen != self._program:  # it is being changed for a moment
                self._program = program
                return WatchEvent(EventKind.EXEC)
            self._woken.wait(left)
        self._woken.clear()
        return None

    def wake(self) -> None:
        """End a wait; any thread may."""
        self._woken.set()

    def follow(self, target: LiveTarget) -> None:
        """Nothing is held."""

    def resume(self) -> None:
        """Nothing is held."""

    def watch_start(self) -> bool | None:
        """Nothing is held."""
        return None

    def watch_exit(self) -> bool:
        """Nothing is held."""
        return False

    def watch_exceptions(
        self,
        places: Mapping[int, int],
        *,
        show_all: bool,
        texts: TextFilter,
    ) -> None:
        """Nothing is held."""

    def add_rule(self, rule: Rule) -> None:
        """Nothing is held."""

    def watch_output(self, texts: TextFilter) -> None:
        """Nothing is held."""

    def rest(self, duration_s: float) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""
