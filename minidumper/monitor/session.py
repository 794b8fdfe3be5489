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
from ..clr.runtime import find_runtime
from ..errors import BridgeError
from ..naming import output_paths
from ..outputs import Outputs
from ..planning import LATE_SITE, RAISE_SITE, Planner
from ..report import Moment
from ..target import LiveTarget
from ..watching import (
    EVERY_THROW,
    RANGE_CHECK,
    RETHROW,
    THROW,
    EventKind,
    LaunchedProcess,
    Verdict,
    Watched,
    Watcher,
    WatchEvent,
)
from .conditions import FIRST_CHANCE, ExceptionCondition
from .ending import EndWatcher
from .exceptions import (
    NEVER_THROWN,
    Described,
    ThrownType,
    describe_signal,
    describe_throw,
    describe_type,
    undescribed,
)
from .wants import DumpSettings, Wants

_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_SITES = {
    LATE_SITE: EVERY_THROW,
    RAISE_SITE: EVERY_THROW,
    "CORINFO_HELP_THROW": THROW,
    "CORINFO_HELP_RETHROW": RETHROW,
    "CORINFO_HELP_RNGCHKFAIL": RANGE_CHECK,
}
_UNSEEN = (
    "exceptions that this runtime's native code throws are not seen: failed casts, missing methods "
    "and libraries, type initializers"
)
_UNSEEN_YET = (
    "failed casts, missing methods and libraries, and exceptions of type initializers are seen "
    "once any other exception was thrown in the process"
)
_SITES_POLL_S = 1.0
_SITES_SOON_S = 0.01  # after the first exception, which makes that site

_MEMORY_POLL_S = 0.25
_FILES_POLL_S = 0.1
_RUNTIME_POLL_S = 0.005  # a runtime takes some 30 ms from its mapping to the first managed code
_CORE_LIBRARY = "/System.Private.CoreLib.dll"  # mapped when the runtime is about to be ready
_CORE_LIBRARY_WAIT_S = 1.0  # it is no file of its own in a bundle
_RUNTIME_STEP_S = 0.001  # the runtime begins in steps, until it can be read
_RUNTIME_WAIT_S = 10.0  # a program that has none by then is asked less often

_TOLD: Mapping[EventKind, Callable[[WatchEvent], str]] = {
    EventKind.SEEN: lambda e: (
        f"exception in thread {e.own_tid}: {e.type}" + (f' ("{e.message}")' if e.message else "")
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
        """
        self.ended = False
        self._wants = wants
        self._settings = settings
        self._capture: Capture | None = None
        self._held = False
        self._given: list[str] = []
        self._modules: dict[str, int] = {}
        self._rethrow = 0
        self._look_next = 0.0
        self._look_often_until = 0.0
        self._sites_final = False
        self._began = time.monotonic()
        with ExitStack() as stack:
            self.target: LiveTarget = platforms.open_target(pid)
            platforms.configure(self.target, settings.options)
            stack.callback(lambda: self.target.close())
            stack.callback(self._close_capture)
            self.watcher = self._watch(launched)
            stack.callback(self.watcher.close)
            self._awaits_runtime = wants.throws and self.watcher.needs_places
            self._awaits_exit = wants.exits
            if launched:  # else while all is got ready nothing shall be held
                self._say_what_counts()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def warm(self) -> None:
        """Get ready for dumps, and for exceptions where they are waited for.

        Raises:
            ClrError: this kind of dump cannot be had of the process.
        """
        self._modules = self._bases()
        capture = self._ready(falls_back=False)  # what fails now is told at once
        capture.planner.falls_back = self._settings.falls_back
        self.check_outputs()
        self._awaits_exit = self._wants.exits and not self.watcher.watch_exit()
        self._say_what_counts()
        if self._awaits_runtime:
            self._watch_exceptions(capture.planner)

    def check_outputs(self) -> None:
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
        poll_s = self._poll_s()
        if soon:
            poll_s = min(_FILES_POLL_S, poll_s or _FILES_POLL_S)
        event = self.watcher.wait(poll_s)
        if event is not None:
            return self._judge(event)
        if self._awaits_exit:
            self._awaits_exit = not self.watcher.watch_exit()
        if self._awaits_runtime:
            self._look_for_runtime()
        elif self._looks_for_sites:
            self._look_for_sites()
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

    def _poll_s(self) -> float | None:
        if self._awaits_runtime or self._awaits_exit:
            recent = time.monotonic() - self._began < _RUNTIME_WAIT_S
            return _RUNTIME_POLL_S if recent else _MEMORY_POLL_S
        if self._looks_for_sites:
            return max(0.0, self._look_next - time.monotonic())
        polls = self._wants.memory.is_set or self._wants.shows
        return _MEMORY_POLL_S if polls else None

    @property
    def _looks_for_sites(self) -> bool:
        return self._wants.throws and self.watcher.needs_places and not self._sites_final

    def _judge(self, event: WatchEvent) -> Moment | None:
        """What an event means; the thread is held where it is a moment."""
        if event.kind is EventKind.ENDED:
            self.ended = True
            return None
        if event.kind is EventKind.TYPE:
            self._add_rule(event)
            return None
        if event.kind in _TOLD:
            self._show(_TOLD[event.kind](event))
            return None
        self._held = True
        moment = None
        if event.kind is EventKind.EXEC:
            self._reopen()
        elif event.kind is EventKind.EXIT:
            moment = Moment("exit") if self._wants.exits else None
        elif event.kind is EventKind.EXCEPTION:
            found = self._ask(lambda planner: describe_throw(planner, event))
            moment = self._counting(found or undescribed(event))
        elif event.kind is EventKind.OUTPUT:
            self._show(_TOLD[EventKind.SAID](event))
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
            causes = "".join(f', because of {kind} ("{text}")' for kind, text in info.inner)
            self._show(f"{what} in thread {info.tid}: {info}{causes}")
        return Moment("exception" if found.is_managed else "crash", info) if counts else None

    def _add_rule(self, event: WatchEvent) -> None:
        found = self._ask(lambda planner: describe_type(planner, event))
        self._look_next = 0.0
        self._look_often_until = time.monotonic() + _SITES_POLL_S
        condition = self._wants.exceptions
        verdict = Verdict.DISMISSED
        if condition is not None and self._wants.first_chance:
            verdict = condition.verdict(found.names) if found else Verdict.MATCHES
        method_table, names, offset, slot = found or ThrownType(event.method_table, ("?",))
        self.watcher.add_rule(method_table, verdict, names[0], offset, slot)

    def _ask(self, question: Callable[[Planner], _Answer]) -> _Answer | None:
        """What the CLR side says, which starts anew where it died or hung; None if it does again.

        Its worker is the first that the kernel ends where memory runs out.
        """
        for _ in range(2):
            try:
                return question(self._ready().planner)
            except BridgeError as err:
                _LOG.debug("the CLR side failed, and starts anew: %s", err)
                self._close_capture()
        return None

    def _show(self, text: str) -> None:
        """Tell something that happened, with its time where all is told."""
        when = f"{datetime.now():%H:%M:%S.%f} " if self._wants.shows else ""
        _LOG.info("%s%s", when, text)

    def _bases(self) -> dict[str, int]:
        return {module.path: module.base for module in self.target.modules()}

    def _show_modules(self) -> None:
        """Tell what was loaded and unloaded since the last look."""
        modules = self._bases()
        for path in modules.keys() - self._modules.keys():
            self._show(f"loaded {path} at 0x{modules[path]:x}")
        for path in self._modules.keys() - modules.keys():
            self._show(f"unloaded {path}")
        self._modules = modules

    def _say_what_counts(self) -> None:
        """For watchers that need no places for it."""
        if self._wants.output:
            self.watcher.watch_output(self._wants.output)
        if self._wants.throws and not self.watcher.needs_places:
            self._set_places({})

    def _look_for_runtime(self) -> None:
        """Of a program that has just begun: watch it as soon as its runtime can be read."""
        early = time.monotonic() - self._began < _CORE_LIBRARY_WAIT_S
        if early and not any(r.path.endswith(_CORE_LIBRARY) for r in self.target.regions()):
            return
        if find_runtime(self.target) is None:
            return
        with ExitStack() as stack:
            planner: Planner | None = None
            while self._awaits_runtime:
                with self.target.stopped():
                    try:
                        if planner is None:
                            planner = stack.enter_context(self._early_planner())
                        else:
                            planner.open_again()
                        self._watch_exceptions(planner)
                    except BridgeError as err:
                        if time.monotonic() - self._began > _RUNTIME_WAIT_S:
                            raise
                        if planner and err.exit_status is not None:  # the DAC crashed
                            planner.close()
                            planner = None
                time.sleep(_RUNTIME_STEP_S)

    def _early_planner(self) -> Planner:
        """One with a worker of its own: what ClrMD sees now of the runtime will soon be wrong."""
        return Planner(
            self.target,
            self._settings.modes,
            dac=self._settings.dac,
            root=self.target.root,
            user=self.target.user,
            describes=True,
        )

    def _watch_exceptions(self, planner: Planner) -> None:
        sites = planner.throw_sites()
        self._sites_final = not sites.keys().isdisjoint((LATE_SITE, RAISE_SITE))
        self._rethrow = sites.get("CORINFO_HELP_RETHROW", 0)
        places = {_SITES[name]: address for name, address in sites.items()}
        self._set_places(places)
        if self.watcher.needs_places and not self._sites_final:
            _LOG.info(_UNSEEN if RANGE_CHECK in places else _UNSEEN_YET)
        self._awaits_runtime = False

    def _set_places(self, places: Mapping[int, int]) -> None:
        condition = self._wants.exceptions or ExceptionCondition()
        self.watcher.watch_exceptions(
            places,
            show_all=self._wants.shows,
            texts=condition.texts,
        )

    def _look_for_sites(self) -> None:
        """Watch where the runtime's own exceptions pass, too, once there has been a first one."""
        now = time.monotonic()
        if now < self._look_next:
            return
        self._look_next = now + (_SITES_SOON_S if now < self._look_often_until else _SITES_POLL_S)
        site = self._ask(lambda planner: planner.late_throw_site())
        if site:
            self._set_places({EVERY_THROW: site, RETHROW: self._rethrow})
            self._sites_final = True

    def _reopen(self) -> None:
        """Another program took the place of the one before: its memory is another."""
        self._close_capture()
        pid = self.target.pid
        self.target.close()
        self.target = platforms.open_target(pid)
        platforms.configure(self.target, self._settings.options)
        self.watcher.follow(self.target)
        self._awaits_runtime = self._wants.throws
        self._awaits_exit = self._wants.exits
        self._began = time.monotonic()
        _LOG.info("process %d runs %s now", pid, self.target.name)
