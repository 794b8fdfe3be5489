"""Tells what happens in a target: the guardian and, where that is not enough, a debugger."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import CaptureError
from ...target import LiveTarget
from ...watching import EventKind, TextFilter, Verdict, Watched, WatchEvent
from .debugger import Debugger
from .guardian import Guardian, NoBreakpointsError
from .process import LinuxProcess

_LOG = logging.getLogger(__name__)

_HOLDING = (EventKind.EXCEPTION, EventKind.OUTPUT)


class LinuxWatcher:
    """A `Watcher` of a running process."""

    tells_modules = False

    def __init__(self, command: Sequence[str | Path], process: LinuxProcess, what: Watched) -> None:
        """Start a guardian with `command`, and have it hold the process.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: it ended meanwhile.
        """
        self._command = command
        self._process = process
        self._debugger: Debugger | None = None
        self._stands = False  # at an event of the debugger
        self._output: TextFilter | None = None
        self._guardian = Guardian(command)
        try:
            self._guardian.seize(process, what)
        except BaseException:
            self._guardian.close()
            raise

    @property
    def needs_places(self) -> bool:
        """A debugger needs none."""
        return self._debugger is None

    @property
    def advice(self) -> str:
        """What a debugger costs was told when it came."""
        return "" if self._debugger else self._guardian.advice

    def wait(self, timeout_s: float | None) -> WatchEvent | None:
        """The next event; None after so many seconds, or when `wake()` was called."""
        debugger = self._debugger
        if debugger is None:
            return self._guardian.wait(timeout_s)
        if not debugger.events:
            event = self._guardian.wait(timeout_s, [debugger.connection])
            if event is not None:
                return event
            debugger.look()
        if not debugger.events:
            return None
        event = debugger.events.popleft()
        if event.kind in _HOLDING:
            self._stands = True
            self._guardian.first = event.tid
        return dataclasses.replace(event, own_tid=event.tid)

    def wake(self) -> None:
        """End a wait; any thread may."""
        self._guardian.wake()

    def follow(self, target: LiveTarget) -> None:
        """Hold the program that took the place of the one before, which has no debugger."""
        assert isinstance(target, LinuxProcess)
        self._process = target
        self._leave()
        self._guardian.follow(target)

    def resume(self) -> None:
        """Let the thread of the last event that holds one run on."""
        if self._stands and self._debugger:
            self._stands = False
            self._guardian.first = None
            self._debugger.resume()
        else:
            self._guardian.resume()

    def watch_exit(self) -> bool:
        """See `Guardian.watch_exit`."""
        return self._guardian.watch_exit()

    def watch_exceptions(
        self,
        places: Mapping[int, int],
        *,
        show_all: bool,
        texts: TextFilter,
    ) -> None:
        """Tell exceptions thrown at `places`, addresses by kind, or all by a debugger.

        Raises:
            CaptureError: the system lets us watch no address, and there can be no debugger.
        """
        if self._debugger is None:
            try:
                self._guardian.watch_exceptions(places, show_all=show_all, texts=texts)
                return
            except NoBreakpointsError as err:
                if (
                    self._guardian.signals
                ):  # a program that begins is held: its runtime is not ready
                    raise
                self._watch_instead(err)
        assert self._debugger
        self._debugger.filter(show_all=show_all, texts=texts)

    def add_rule(
        self, method_table: int, verdict: Verdict, name: str, message_offset: int, slot: int
    ) -> None:
        """Say what the exceptions of a type mean, and let those that wait for it go on."""
        watcher = self._debugger or self._guardian
        watcher.add_rule(method_table, verdict, name, message_offset)

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the process at debug output that matches, as `watch_exceptions` is told."""
        self._output = texts
        self._guardian.watch_output(texts)

    def close(self) -> None:
        """Let the target go; it runs on."""
        try:
            self._leave()
        finally:
            self._guardian.close()

    def _watch_instead(self, err: NoBreakpointsError) -> None:
        try:
            self._debug(str(err))
        except CaptureError as other:
            raise CaptureError(f"{err}; {other}", stage="watch", hint=err.hint) from None

    def _debug(self, why: str) -> None:
        debugger = Debugger(self._command, self._process)
        try:
            debugger.attach()
        except BaseException:
            debugger.close()
            raise
        self._debugger = debugger
        if self._output:
            debugger.watch_output(self._output)
        _LOG.info(
            "%s: minidumper is the process's debugger, an exception takes %s ms",
            why,
            debugger.cost_ms,
        )

    def _leave(self) -> None:
        debugger, self._debugger = self._debugger, None
        if debugger:
            debugger.close()
