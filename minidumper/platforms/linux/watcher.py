"""Tells what happens in a target: the guardian and, where that is not enough, a debugger."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import CaptureError, TargetExitedError
from ...target import LiveTarget
from ...watching import EventKind, Rule, TextFilter, Watched, WatchEvent
from .debugger import Debugger
from .guardian import Guardian, NoBreakpointsError, breakpoints_refused
from .process import LinuxProcess

_LOG = logging.getLogger(__name__)

_HOLDING = (EventKind.EXCEPTION, EventKind.OUTPUT)
_END_S = 0.5
"""Seconds in which a process tells that it ended."""


class LinuxWatcher:
    """A `Watcher` of a running process."""

    tells_modules = False

    def __init__(
        self,
        command: Sequence[str | Path],
        process: LinuxProcess,
        what: Watched,
        *,
        begins: bool,
    ) -> None:
        """Start a guardian with `command`, and have it hold the process, which may yet begin.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: it ended meanwhile.
        """
        self._command = command
        self._process = process
        self._debugger: Debugger | None = None
        self._refusal = breakpoints_refused()
        self._begins = begins
        self._awaits_runtime = False
        self._is_late = False  # its runtime has begun
        self._has_debugged = False
        self._stands = False  # at an event of the debugger
        self._show_all = False
        self._texts = TextFilter()
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
        return self._refusal is None

    @property
    def advice(self) -> str:
        """What a debugger costs was told when it came."""
        return "" if self._refusal else self._guardian.advice

    def wait(self, timeout_s: float | None) -> WatchEvent | None:
        """The next event; None after so many seconds, or when `wake()` was called.

        Raises:
            CaptureError: a program that began can have no debugger; what watches it is gone.
        """
        if self._awaits_runtime:
            return self._await_runtime(timeout_s)
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
        self._begins = False
        debugger, self._debugger = self._debugger, None
        if debugger:
            debugger.forget()
        self._guardian.follow(target)
        if debugger or self._awaits_runtime:
            self._begin_with_runtime()

    def resume(self) -> None:
        """Let the thread of the last event that holds one run on."""
        if self._stands and self._debugger:
            self._stands = False
            self._guardian.first = None
            self._debugger.resume()
        else:
            self._guardian.resume()

    def watch_start(self) -> bool | None:
        """See `Guardian.watch_start`."""
        return self._guardian.watch_start()

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
        self._show_all, self._texts = show_all, texts
        if self._refusal is None:
            try:
                self._guardian.watch_exceptions(places, show_all=show_all, texts=texts)
                return
            except NoBreakpointsError as err:
                self._refusal = err
        if self._guardian.signals:  # it is held, and would answer no debugger
            self._awaits_runtime = self._is_late = True
        elif self._begins:
            self._begin_with_runtime()
        else:
            self._debug()

    def add_rule(self, rule: Rule) -> None:
        """Say what the exceptions of a type mean, and let those that wait for it go on."""
        watcher = self._debugger or self._guardian
        watcher.add_rule(rule)

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the process at debug output that matches, as `watch_exceptions` is told."""
        self._output = texts
        self._guardian.watch_output(texts)

    def rest(self, duration_s: float) -> None:
        """Let exceptions where they are thrown, and debug output, count no more for so long."""
        self._guardian.rest(duration_s)
        if self._debugger:
            self._debugger.rest(duration_s)

    def close(self) -> None:
        """Let the target go; it runs on.

        The guardian first: a process that stops for its debugger alone can be seen to run.
        """
        try:
            self._guardian.close()
        finally:
            if self._debugger:
                self._debugger.close()

    def _begin_with_runtime(self) -> None:
        """Be the debugger of a program that begins from when its runtime does."""
        self._awaits_runtime, self._is_late = True, False
        self._guardian.watch_calls()

    def _await_runtime(self, timeout_s: float | None) -> WatchEvent | None:
        """As `wait`, and be the debugger as soon as there can be one."""
        event = self._guardian.wait(0.0 if self._is_late else timeout_s)
        begins = event is not None and event.kind is EventKind.STAGE
        if not begins and (event or not self._is_late):
            if event and event.kind is EventKind.ENDED and not self._has_debugged:
                _LOG.info("%s; no runtime was seen to begin that takes a debugger", self._refusal)
            return event
        try:
            self._debug()
        except (CaptureError, TargetExitedError):
            end = self._guardian.wait(_END_S)
            if end is None:
                raise
            return end
        self._guardian.begin()
        return None

    def _debug(self) -> None:
        refusal = self._refusal
        assert refusal
        self._has_debugged = True
        try:
            debugger = Debugger(self._command, self._process)
            try:
                debugger.filter(show_all=self._show_all, texts=self._texts)
                if self._output:
                    debugger.watch_output(self._output)
                debugger.attach(self._guardian.tells_end)
            except TargetExitedError:
                debugger.give_up()
                raise
            except BaseException:
                debugger.close()
                raise
        except CaptureError as err:
            raise CaptureError(f"{refusal}; {err}", stage="watch", hint=refusal.hint) from None
        self._debugger = debugger
        self._awaits_runtime = False
        self._guardian.be_debugged()
        _LOG.info(
            "%s: minidumper is the process's debugger, %s%s",
            refusal,
            debugger.cost,
            "; those before were not seen" if self._is_late else "",
        )
