"""The runtime's debugger interface (ICorDebug): for systems that forbid hardware breakpoints.

A second helper process, in the guardian's program, is the target's debugger; the guardian goes on
holding its threads for dumps, which works in a process that stands at an event of the debugger.
"""

from __future__ import annotations

import logging
import os
import re
import select
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import CaptureError, MiniDumperError
from ...watching import Rule, TextFilter, WatchEvent
from .connection import Connection, as_word, as_words, event_of, rule_line
from .debugtransport import MAJORS, fifos, had_debugger, rescue
from .process import LinuxProcess
from .watchdog import Watchdog

_LOG = logging.getLogger(__name__)

COSTS = {
    "8": "an exception takes 4 to 15 ms",
    "9": "an exception takes 13 to 16 ms",
    "10": "an exception takes 3 to 4 ms",
}
"""By version of .NET: an exception is two stops of the whole process. benchmarks/waiting.py."""

_RUNTIME = "libcoreclr.so"
_INTERFACE = "libmscordbi.so"
_VERSION = re.compile(rb"@\(#\)Version (\d+)\.")
"""What the build puts into every native library of .NET: eng/native/version, dotnet/runtime."""
_DETACH_S = 3.0


class Debugger:
    """The debugger of one process."""

    def __init__(self, command: Sequence[str | Path], process: LinuxProcess) -> None:
        """Find what it takes, and start the helper; `command` is the guardian's.

        Raises:
            CaptureError: this process can have no debugger.
        """
        self.events: deque[WatchEvent] = deque()
        self._pid = process.pid
        self._has_ended = process.has_ended
        runtime = next((m for m in process.modules() if os.path.basename(m.path) == _RUNTIME), None)
        if runtime is None:
            raise _unable(f"the process has no {_RUNTIME}")
        folder = Path(process.root + os.path.dirname(runtime.path))
        try:
            found = _VERSION.search((folder / _INTERFACE).read_bytes())
        except OSError as err:
            raise _unable(f"{_INTERFACE} beside {_RUNTIME}: {err.strerror}") from None
        major = found[1].decode() if found else "of unknown version"
        if major not in MAJORS:
            raise _unable(f"that takes .NET {', '.join(MAJORS)}")
        pipes = fifos(self._pid)
        if not any(f"-{self._pid}-" in pipe.name for pipe in pipes):
            raise _unable(
                "its runtime listens to none (DOTNET_EnableDiagnostics, or another pid namespace)"
            )
        self._free()
        self.cost = COSTS[major]
        self._attach = f"attach {self._pid} {runtime.base:x} {as_word(str(folder))}"
        self.connection = Connection(
            [*command, "debug"],
            lambda line: self._take(line),
            gone="the process that was the target's debugger was ended",
            variables={"TMPDIR": str(pipes[0].parent)},
            user=process.user,
        )
        try:
            self._watchdog = Watchdog(self._pid, self.connection.pid)
        except BaseException:
            self.connection.close()
            raise

    def attach(self, has_ended: Callable[[], bool]) -> None:
        """Be the process's debugger from now on; its runtime must run.

        Raises:
            CaptureError: the runtime refuses.
            TargetExitedError: `has_ended`.
        """
        (result,) = self.connection.ask(self._attach, has_ended=has_ended)
        if int(result, 16):
            raise _unable(f"its runtime refuses (0x{int(result, 16):08X}; see minidumper doctor)")

    def filter(self, *, show_all: bool, texts: TextFilter) -> None:
        """Which exceptions count by their text; see `Watcher.watch_exceptions`."""
        self.connection.ask(" ".join(["filter", f"{show_all:d}", *as_words(texts)]))

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the process at debug output that matches."""
        self.connection.ask(" ".join(["output", *as_words(texts)]))

    def add_rule(self, rule: Rule) -> None:
        """See `Watcher.add_rule`."""
        self.connection.send(rule_line(rule))

    def rest(self, duration_s: float) -> None:
        """See `Watcher.rest`."""
        self.connection.send(f"rest {duration_s * 1000:.0f}")

    def look(self) -> None:
        """Take what it has told.

        Raises:
            CaptureError: the helper is gone.
        """
        if select.select([self.connection], [], [], 0)[0]:
            self.connection.look()

    def resume(self) -> None:
        """Let the process run on from the last event that holds it."""
        self.connection.send("resume")

    def close(self) -> None:
        """Be its debugger no longer: the helper ends, and what it leaves is freed."""
        with self._watchdog:
            self.connection.detach(_DETACH_S)
            if self._has_ended():
                return
            try:
                found = rescue(self._pid)
                _LOG.debug("let go by its debugger, and found stopped %d times", found)
            except MiniDumperError as err:
                if not self._has_ended():
                    _LOG.warning("the process may stand still: %s", err)

    def forget(self) -> None:
        """Of a program that another took the place of: nobody is to be let go."""
        with self._watchdog:
            self.connection.detach(_DETACH_S)

    def give_up(self) -> None:
        """Of a process that ended before its answer: the helper waits for that."""
        with self._watchdog:
            self.connection.close()

    def _free(self) -> None:
        """Let the process run where an earlier debugger died on it: it would take no other."""
        try:
            if had_debugger(self._pid) and rescue(self._pid):
                _LOG.info("an earlier debugger had left the process stopped: it runs on")
        except MiniDumperError as err:
            raise _unable(str(err)) from None

    def _take(self, line: str) -> None:
        name, *words = line.split()
        self.events.append(event_of(name, words))


def _unable(why: str) -> CaptureError:
    return CaptureError(f"the process cannot have a debugger: {why}", stage="watch")
