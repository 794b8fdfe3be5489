"""Where one process throws, found as its runtime comes to life, and watched."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from ..clr.runtime import find_runtime
from ..errors import BridgeError
from ..planning import (
    LATE_SITE,
    RANGE_HELPER,
    RETHROW_HELPER,
    THROW_HELPER,
    THROW_SITE,
    Planner,
)
from ..target import LiveTarget
from ..watching import EVERY_THROW, RANGE_CHECK, RETHROW, THROW, Watcher
from .conditions import ExceptionCondition
from .wants import DumpSettings, Wants

_LOG = logging.getLogger(__name__)

_KINDS = {
    THROW_SITE: EVERY_THROW,
    LATE_SITE: EVERY_THROW,
    THROW_HELPER: THROW,
    RETHROW_HELPER: RETHROW,
    RANGE_HELPER: RANGE_CHECK,
}
_UNSEEN = (
    "exceptions that this runtime's native code throws are not seen: failed casts, missing methods "
    "and libraries, type initializers"
)
_UNSEEN_YET = (
    "failed casts, missing methods and libraries, and exceptions of type initializers are seen "
    "once any other exception was thrown in the process"
)
_POLL_S = 1.0
_SOON_S = 0.01  # after the first exception, which makes that site

RUNTIME_POLL_S = 0.005
"""Seconds; a runtime takes some 30 ms from its mapping to the first managed code."""

RUNTIME_WAIT_S = 10.0
"""Seconds; a program that has none by then is asked less often."""

_RARE_POLL_S = 0.25
_CORE_LIBRARY = "/System.Private.CoreLib.dll"  # mapped when the runtime is about to be ready
_START_WAIT_S = 1.0  # a bundle has no such file, and tells nothing of its start
_DEATHS = 2
_RUNTIME_STEP_S = 0.001  # the runtime begins in steps, until it can be read


class ThrowSites:
    """What a watcher is told of one program; another gets its own."""

    def __init__(
        self, target: LiveTarget, watcher: Watcher, wants: Wants, settings: DumpSettings
    ) -> None:
        self.awaits_runtime = wants.throws and watcher.needs_places
        self._target = target
        self._watcher = watcher
        self._wants = wants
        self._settings = settings
        self._rethrow = 0
        self._look_next = 0.0
        self._look_often_until = 0.0
        self._final = False
        self._starts = False
        self._began = time.monotonic()

    @property
    def poll_s(self) -> float | None:
        """Seconds until `look` should be called; None where it need not be."""
        if self.awaits_runtime:
            recent = time.monotonic() - self._began < RUNTIME_WAIT_S
            return RUNTIME_POLL_S if recent else _RARE_POLL_S
        if self._wants.throws and self._watcher.needs_places and not self._final:
            return max(0.0, self._look_next - time.monotonic())
        return None

    def begin(self) -> None:
        """Say what counts to a watcher that needs no places for it."""
        if self._wants.output:
            self._watcher.watch_output(self._wants.output)
        if self._wants.throws and not self._watcher.needs_places:
            self._set({})

    def watch(self, planner: Planner) -> None:
        """Watch where the runtime throws, which can be read.

        Raises:
            ClrError: it cannot.
            CaptureError: the system lets nobody watch it.
        """
        sites = planner.throw_sites()
        self._final = not sites.keys().isdisjoint((THROW_SITE, LATE_SITE))
        self._rethrow = sites.get(RETHROW_HELPER, 0)
        places = {_KINDS[name]: address for name, address in sites.items()}
        self._set(places)
        if self._watcher.needs_places and not self._final:
            _LOG.info(_UNSEEN if RANGE_CHECK in places else _UNSEEN_YET)
        self.awaits_runtime = False

    def look_at_start(self) -> None:
        """A program that begins is held: watch it where its runtime is about to run its code.

        Raises:
            BridgeError: its runtime cannot be read.
        """
        if self.awaits_runtime:
            there = self._watcher.watch_start()
            self._starts = there is False
            if there:
                self._look_for_runtime()

    def look(self, late_site: Callable[[], int | None]) -> None:
        """Look for what was not there the last time; `late_site` asks for `late_throw_site`.

        Raises:
            BridgeError: a program that began has a runtime that cannot be read.
        """
        if self.awaits_runtime:
            if self._may_be_ready():
                self._look_for_runtime()
            return
        now = time.monotonic()
        if self.poll_s is None or now < self._look_next:
            return
        self._look_next = now + (_SOON_S if now < self._look_often_until else _POLL_S)
        # The runtime's own exceptions pass there, too, once there has been a first one.
        site = late_site()
        if site:
            self._set({EVERY_THROW: site, RETHROW: self._rethrow})
            self._final = True

    def look_soon(self) -> None:
        """An exception of a new type was thrown, which may have been the first."""
        self._look_next = 0.0
        self._look_often_until = time.monotonic() + _POLL_S

    def _may_be_ready(self) -> bool:
        if time.monotonic() - self._began > _START_WAIT_S:
            return True
        return not self._starts and any(
            region.path.endswith(_CORE_LIBRARY) for region in self._target.regions()
        )

    def _look_for_runtime(self) -> None:
        """Of a program that has just begun: watch it as soon as its runtime can be read."""
        if find_runtime(self._target) is None:
            return
        deaths = 0
        deadline = time.monotonic() + RUNTIME_WAIT_S
        with ExitStack() as stack:
            planner: Planner | None = None
            while self.awaits_runtime:
                with self._target.stopped():
                    try:
                        if planner is None:
                            planner = stack.enter_context(self._early_planner())
                        else:
                            planner.open_again()
                        self.watch(planner)
                    except BridgeError as err:
                        died = err.exit_status is not None  # the DAC crashed, or hung
                        deaths += died
                        if deaths > _DEATHS if died else time.monotonic() > deadline:
                            raise
                        if planner and died:
                            planner.close()
                            planner = None
                time.sleep(_RUNTIME_STEP_S)

    def _early_planner(self) -> Planner:
        """One with a worker of its own: what ClrMD sees now of the runtime will soon be wrong."""
        return Planner(
            self._target,
            self._settings.modes,
            dac=self._settings.dac,
            root=self._target.root,
            user=self._target.user,
            describes=True,
        )

    def _set(self, places: Mapping[int, int]) -> None:
        condition = self._wants.exceptions or ExceptionCondition()
        self._watcher.watch_exceptions(places, show_all=self._wants.shows, texts=condition.texts)
