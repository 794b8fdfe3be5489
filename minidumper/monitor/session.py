"""One process under watch: what happens in it, and the dumps of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Self, TypeVar

from .. import platforms
from ..capture import Capture, Taken
from ..clr.host import find_host
from ..errors import BridgeError
from ..naming import output_paths
from ..outputs import Outputs
from ..planning import Planner
from ..report import Moment
from ..target import LiveTarget
from ..watching import (
    EventKind,
    LaunchedProcess,
    Rule,
    Verdict,
    Watched,
    Watcher,
    WatchEvent,
)
from .conditions import FIRST_CHANCE
from .ending import EndWatcher
from .exceptions import (
    NEVER_THROWN,
    Described,
    causes,
    describe_signal,
    describe_throw,
    describe_type,
    undescribed,
)
from .sites import RUNTIME_POLL_S, RUNTIME_WAIT_S, ThrowSites
from .wants import DumpSettings, Wants

_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_MEMORY_POLL_S = 0.25
_FILES_POLL_S = 0.1

_TOLD: Mapping[EventKind, Callable[[WatchEvent], str]] = {
    EventKind.SEEN: lambda e: (
        f"exception in thread {e.own_tid}: {e.type}"
        + (f' ("{e.message}")' if e.message else "")
        + causes(e.inner)
    ),
    EventKind.SAID: lambda e: f"output of thread {e.own_tid}: {e.message}",
    EventKind.BEGAN: lambda e: f"thread {e.own_tid or e.tid} began",
    EventKind.GONE: lambda e: f"thread {e.own_tid or e.tid} ended",
    EventKind.LOADED: lambda e: f"loaded {e.message} at 0x{e.address:x}",
    EventKind.UNLOADED: lambda e: f"unloaded {e.message}",
}
"""What is shown of events at which nothing is held."""


class Session:
    """Use it in `with`, which lets the process go."""

    def __init__(
        self,
        pid: int,
        wants: Wants,
        settings: DumpSettings,
        launched: LaunchedProcess | None = None,
    ) -> None:
        """Open the process, which may be one that we launched, and watch it from now on.

        Raises:
            TargetError, ClrError, CaptureError: it cannot be watched or dumped.
            UsageError: one name for several dumps.
        """
        self.ended = False
        self.rests_until = 0.0
        """No dump before (time.monotonic)."""
        self._wants = wants
        self._settings = settings
        self._capture: Capture | None = None
        self._held = False
        self._given: list[str] = []
        self._modules: dict[str, int] = {}
        self._began = time.monotonic()
        with ExitStack() as stack:
            self._open(pid)
            stack.callback(lambda: self.target.close())
            stack.callback(self._close_capture)
            self._check_outputs()
            self.watcher = self._watch(launched)
            stack.callback(self.watcher.close)
            self._sites = self._new_sites()
            self._awaits_exit = wants.exits
            if launched:  # else while all is got ready nothing shall be held
                self._sites.begin()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def warm(self) -> None:
        """Get ready for dumps, and for exceptions where they are waited for.

        Raises:
            ClrError: this kind of dump cannot be had of the process.
            TargetError: it cannot be stopped.
        """
        self._modules = self._bases()
        capture = self._ready(falls_back=False)  # what fails now is told at once
        capture.planner.falls_back = self._settings.falls_back
        if not self._wants.holds:
            with self.target.stopped():  # what forbids it is told now, not at the moment
                pass
        self._check_outputs()
        self._awaits_exit = self._wants.exits and not self.watcher.watch_exit()
        self._sites.begin()
        if self._sites.awaits_runtime:
            self._asked(self._sites.watch)

    def _check_outputs(self) -> None:
        """Find what would keep a dump from being written, before its moment comes.

        Raises:
            UsageError: one name for several dumps.
            OutputError: a file cannot be written, or would not fit on the disk as things are now.
        """
        settings = self._settings
        with Outputs(
            platforms.backend(),
            self.paths(),
            overwrite=settings.overwrite,
            level=settings.level,
            asynchronous=settings.async_copy,
        ) as outputs:
            if self._capture:
                outputs.check_disk(self.target, self._capture.planner, settings.modes)

    def wait(self, *, soon: bool = False) -> Moment | None:
        """The next moment that counts; None when there is something else to look at.

        With `soon` the caller has something else to look at.
        """
        event = self.watcher.wait(self._poll_s(soon=soon))
        if event is not None:
            return self._judge(event)
        if self._awaits_exit:
            self._awaits_exit = not self.watcher.watch_exit()
        self._sites.look(lambda: self._ask(lambda planner: planner.late_throw_site()))
        if self._wants.shows and not self.watcher.tells_modules:
            self._show_modules()
        if self._wants.memory.is_set:
            commit = platforms.commit_charge(self.target.pid)
            if self._wants.memory.holds(commit, time.monotonic(), self._wants.interval_s):
                _LOG.info("%s uses %s MB", self.target.name, f"{commit / 2**20:,.0f}")
                return Moment("memory")
        return None

    def dump(self, moment: Moment) -> Taken:
        """Dumps of this moment, to be finished; the thread that was held for it runs on.

        Raises:
            TargetError, ClrError, CaptureError: as `Capture.take`.
        """
        settings = self._settings
        try:
            paths = self.paths(moment.exception.code if moment.exception else "")
            self._given += paths
            return self._ready().take(
                paths,
                async_copy=settings.async_copy,
                overwrite=settings.overwrite,
                level=settings.level,
                progress=settings.progress,
                moment=moment,
            )
        finally:
            self.rests_until = time.monotonic() + self._wants.interval_s
            self.watcher.rest(self._wants.interval_s)
            self.go_on()

    def go_on(self) -> None:
        """Let the thread run on that is held at the last moment."""
        if self._held:
            self._held = False
            self.watcher.resume()

    def paths(self, code: str = "") -> list[str]:
        """Where the next dumps go.

        Raises:
            UsageError: one name for several dumps.
        """
        return output_paths(
            self._settings.path,
            self._settings.modes,
            name=self.target.name,
            pid=self.target.pid,
            when=datetime.now(),
            exception_code=code or "00000000",
            repeated=self._settings.repeated,
            overwrite=self._settings.overwrite,
            packed=self._settings.level is not None,
            given_before=self._given,
        )

    def _open(self, pid: int) -> None:
        self.target: LiveTarget = platforms.open_target(pid)
        self.name = self.target.name  # what has ended has none of its own
        platforms.configure(self.target, self._settings.options)

    def _watch(self, launched: LaunchedProcess | None) -> Watcher:
        if not self._wants.holds:
            return EndWatcher(self.target.pid)
        what = Watched(
            exits=self._wants.exits,
            crashes=self._wants.exceptions is not None,
            threads=self._wants.shows,
            interrupts=self._settings.shares_terminal,
            output=self._wants.shows or self._wants.output is not None,
        )
        return platforms.watch(self.target, what, guardian=find_host().guardian, launched=launched)

    def _ready(self, *, falls_back: bool = True) -> Capture:
        if self._capture is None:
            self._capture = Capture(
                self.target,
                self._settings.modes,
                dac=self._settings.dac,
                describes=self._wants.exceptions is not None or self._wants.shows,
                falls_back=falls_back and self._settings.falls_back,
            )
        return self._capture

    def _close_capture(self) -> None:
        if self._capture is not None:
            self._capture.__exit__()
            self._capture = None

    def _poll_s(self, *, soon: bool) -> float | None:
        polls = [self._sites.poll_s]
        if self._awaits_exit and time.monotonic() - self._began < RUNTIME_WAIT_S:
            polls.append(RUNTIME_POLL_S)
        if self._awaits_exit or self._wants.memory.is_set or self._wants.shows:
            polls.append(_MEMORY_POLL_S)
        if soon:
            polls.append(_FILES_POLL_S)
        return min((poll for poll in polls if poll is not None), default=None)

    def _new_sites(self) -> ThrowSites:
        return ThrowSites(self.target, self.watcher, self._wants, self._settings)

    def _judge(self, event: WatchEvent) -> Moment | None:
        """What an event means; the thread is held where it is a moment."""
        if event.kind is EventKind.ENDED:
            self.ended = True
            return None
        if event.kind is EventKind.TYPE:
            self._add_rule(event)
            return None
        if event.kind in _TOLD:
            _LOG.info("%s", _TOLD[event.kind](event))
            return None
        self._held = True
        moment = None
        if event.kind is EventKind.EXEC:
            self._reopen()
        elif event.kind is EventKind.STAGE:
            self._sites.look_at_start()
        elif event.kind is EventKind.EXIT:
            moment = Moment("exit") if self._wants.exits else None
        elif event.kind is EventKind.EXCEPTION:
            found = self._ask(lambda planner: describe_throw(planner, event))
            moment = self._counting(found or undescribed(event))
        elif event.kind is EventKind.OUTPUT:
            _LOG.info("%s", _TOLD[EventKind.SAID](event))
            moment = Moment("output", line=event.message)
        else:
            moment = self._signalled(event)
        if moment is None:
            self.go_on()
        return moment

    def _signalled(self, event: WatchEvent) -> Moment | None:
        """A signal that ends the process; an exception counted when it was thrown."""
        found = self._ask(lambda planner: describe_signal(planner, event)) or undescribed(event)
        if found.is_managed and self._wants.first_chance and found.types[0] not in NEVER_THROWN:
            return None
        return self._counting(found)

    def _counting(self, found: Described) -> Moment | None:
        info = found.info
        condition = self._wants.exceptions
        counts = (
            condition is not None
            and (info.chance != FIRST_CHANCE or self._wants.first_chance)
            and (found.in_doubt or condition.counts(info, found.types))
        )
        if counts or self._wants.shows:
            what = "exception" if found.is_managed else "crash"
            _LOG.info("%s in thread %d: %s%s", what, info.tid, info, causes(info.inner))
        return Moment("exception" if found.is_managed else "crash", info) if counts else None

    def _add_rule(self, event: WatchEvent) -> None:
        described = self._ask(lambda planner: describe_type(planner, event))
        rule, names = described or (Rule(event.method_table, "?"), ())
        self._sites.look_soon()
        condition = self._wants.exceptions
        verdict = Verdict.DISMISSED
        if condition is not None and self._wants.first_chance:
            verdict = condition.verdict(names) if names else Verdict.MATCHES
        self.watcher.add_rule(rule._replace(verdict=verdict))

    def _ask(self, question: Callable[[Planner], _Answer]) -> _Answer | None:
        """What the CLR side says; None if it fails twice."""
        try:
            return self._asked(question)
        except BridgeError as err:
            _LOG.debug("the CLR side failed again: %s", err)
            self._close_capture()
            return None

    def _asked(self, question: Callable[[Planner], _Answer]) -> _Answer:
        """What the CLR side says, which starts anew where it died or hung.

        Its worker is the first that the kernel ends where memory runs out.

        Raises:
            BridgeError: it did so again.
        """
        try:
            return question(self._ready().planner)
        except BridgeError as err:
            _LOG.debug("the CLR side failed, and starts anew: %s", err)
            self._close_capture()
        return question(self._ready().planner)

    def _bases(self) -> dict[str, int]:
        return {module.path: module.base for module in self.target.modules()}

    def _show_modules(self) -> None:
        """Tell what was loaded and unloaded since the last look."""
        modules = self._bases()
        for path in modules.keys() - self._modules.keys():
            _LOG.info("loaded %s at 0x%x", path, modules[path])
        for path in self._modules.keys() - modules.keys():
            _LOG.info("unloaded %s", path)
        self._modules = modules

    def _reopen(self) -> None:
        """Another program took the place of the one before: its memory is another."""
        self._close_capture()
        pid = self.target.pid
        self.target.close()
        self._open(pid)
        self.watcher.follow(self.target)
        self._sites = self._new_sites()
        self._sites.look_at_start()
        self._awaits_exit = self._wants.exits
        self._began = time.monotonic()
        _LOG.info("process %d runs %s now", pid, self.name)
