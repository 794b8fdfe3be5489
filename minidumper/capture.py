"""Take dumps: stop, plan, write, resume; the same plan serves those who only look."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from . import platforms
from .errors import BridgeError, CaptureError, StopTimeoutError
from .outputs import Outputs, Progress, Stop, mb
from .plan import CaptureWarning, DumpMode, DumpPlan
from .planning import Planner
from .report import CaptureReport, ExceptionInfo, Moment, Way
from .target import LiveTarget, SnapshotTarget

_LOG = logging.getLogger(__name__)

GC_RETRIES = 5
"""Stops that are given up because the GC was in the middle of its work."""

_Take = Callable[[Stop, LiveTarget], None]
_Fork = Callable[[], SnapshotTarget]
_FRESH_S = 0.5  # so long the rehearsal of the beginning serves the first stop
_GC_PAUSE_S = 0.02  # a gen 0 collection of a busy server takes about this long


class Taken:
    """Dumps whose target may run on, and whose files are yet to be finished."""

    def __init__(
        self, outputs: Outputs, finish: Callable[[], list[CaptureReport]], stack: ExitStack
    ) -> None:
        """`stack` closes what `finish` needs."""
        self.cancel = outputs.cancel
        self._finish = finish
        self._stack = stack

    def finish(self) -> list[CaptureReport]:
        """Write what is not yet written, and give the files their names.

        Raises:
            OutputError: the disk failed, or a name was taken meanwhile.
            CancelledError: `cancel` was called; there is no file.
        """
        with self._stack:
            return self._finish()


class Capture:
    """Dumps of one live target; the CLR side stays warm between them. Use it in `with`."""

    def __init__(
        self,
        target: LiveTarget,
        modes: Sequence[DumpMode],
        *,
        dac: Sequence[Path] = (),
        describes: bool = False,
        falls_back: bool = False,
    ) -> None:
        """Get ready: everything that can be found out before a stop is.

        `describes` and `falls_back` are the planner's.

        Raises:
            ClrError: heap mode cannot serve this target.
        """
        self.target = target
        self.modes = tuple(modes)
        self._backend = platforms.backend()
        began = time.monotonic()
        self.planner = Planner(
            target,
            modes,
            dac=dac,
            root=target.root,
            user=target.user,
            describes=describes,
            falls_back=falls_back,
        )
        self._fresh_until = 0.0
        self._exception: ExceptionInfo | None = None
        try:
            self.planner.rehearse()
        except BaseException:
            self.planner.close()
            raise
        self._fresh_until = time.monotonic() + _FRESH_S
        runtime = self.planner.runtime
        _LOG.debug(
            "process %d (%s): %s; ready after %.2f s",
            target.pid,
            target.name,
            f".NET {runtime.version}, {runtime.path}" if runtime else "no .NET runtime",
            time.monotonic() - began,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.planner.close()

    def plans(self) -> list[DumpPlan]:
        """The plans of one short stop, nothing written."""
        self._rehearse_again()
        return self._stop(lambda stop, source: None).plans

    def write(
        self,
        paths: Sequence[str],
        *,
        async_copy: bool = False,
        overwrite: bool = False,
        level: int | None = None,
        progress: Progress | None = None,
    ) -> list[CaptureReport]:
        """One dump for each mode, all of one stop; none appears unless all are whole.

        Raises:
            OutputError: a file cannot be written; found before the stop where possible.
            InsufficientMemoryError: `async_copy` would not fit into memory.
            MiniDumperError: any other failure; the target runs on, no file is left.
        """
        return self.take(
            paths, async_copy=async_copy, overwrite=overwrite, level=level, progress=progress
        ).finish()

    def take(
        self,
        paths: Sequence[str],
        *,
        async_copy: bool = False,
        overwrite: bool = False,
        level: int | None = None,
        progress: Progress | None = None,
        moment: Moment | None = None,
    ) -> Taken:
        """What of `write` the target is needed for; the rest any thread may do.

        `moment` is what the target is held at already.

        Raises:
            MiniDumperError: as `write`.
        """
        with ExitStack() as stack:
            outputs = Outputs(
                self._backend,
                paths,
                overwrite=overwrite,
                level=level,
                asynchronous=async_copy,
                progress=progress,
            )
            stack.enter_context(outputs)
            self._rehearse_again()
            outputs.check_disk(self.target, self.planner, self.modes)
            self._exception = moment.exception if moment else None
            self.planner.thrown = self._exception.address if self._exception else 0
            name = self.target.name  # it may have ended when the files are whole
            stop = self._stop(outputs.take, asynchronous=async_copy)
            finish = partial(outputs.finish, stop, self.target.pid, name, moment)
            return Taken(outputs, finish, stack.pop_all())

    def _rehearse_again(self) -> None:
        """Rehearse before every stop, once: methods are compiled anew all the time."""
        try:
            self.planner.attach(self.target)  # the snapshot of the stop before is gone
        except BridgeError as err:
            self.planner.restart_without(("rehearsal",), err)
        if time.monotonic() > self._fresh_until:
            self.planner.rehearse()
        self._fresh_until = 0.0

    def _stop(self, take: _Take, *, asynchronous: bool = False) -> Stop:
        """Stop, plan, `take`, resume; again while the GC is in the middle of its work."""
        fork, refusals = self._fork() if asynchronous else (None, [])
        busy = 0
        while True:
            stop = Stop(Way.COPY if asynchronous else Way.STOP, warnings=list(refusals))
            try:
                self.planner.attach(self.target)
                done = self._once(stop, take, fork, committed=busy == GC_RETRIES)
            except BridgeError as err:
                _LOG.debug("the CLR side failed, and starts anew: %s", err)
                self.planner.restart_without(("rehearsal", "stacks"), err)
                continue
            except StopTimeoutError as err:
                if fork is None:
                    raise
                fork, refusals = None, [_refusal(err)]
                continue
            if done:
                return stop
            if self.target.held_since is not None:  # no thread runs on between two stops
                busy = GC_RETRIES
                continue
            _LOG.info("the GC, or a large object being made, is in the way; waiting for its end")
            busy += 1
            time.sleep(_GC_PAUSE_S * busy)

    def _fork(self) -> tuple[_Fork | None, list[CaptureWarning]]:
        """What takes a snapshot of the target, else why it cannot be."""
        try:
            return self._backend.prepare_snapshot(self.target), []
        except CaptureError as err:
            return None, [_refusal(err)]

    def _once(self, stop: Stop, take: _Take, fork: _Fork | None, *, committed: bool) -> bool:
        """One stop; False where the GC was in the middle of its work, and nothing was taken."""
        snapshot: SnapshotTarget | None = None
        began = self.target.held_since or time.monotonic()
        with ExitStack() as held:
            with self.target.stopped():
                if fork:
                    try:
                        snapshot = held.enter_context(fork())
                    except StopTimeoutError:
                        raise
                    except (CaptureError, OSError) as err:
                        stop.warnings.append(_refusal(err))
                done = snapshot is None and self._take(stop, self.target, take, committed)
            stop.pause_s = time.monotonic() - began
            _LOG.debug("the process stood still for %.1f ms", stop.pause_s * 1000)
            if snapshot:
                stop.way = Way.SNAPSHOT
                self.planner.attach(snapshot)
                done = self._take(stop, snapshot, take, committed)
                stop.copied_on_write = snapshot.copied_on_write()
        stop.warnings += (snapshot or self.target).warnings
        return done

    def _take(self, stop: Stop, source: LiveTarget, take: _Take, committed: bool) -> bool:
        """Plan and take what holds still."""
        regions = source.regions()
        threads = source.threads()
        for mode in self.modes:
            plan = self.planner.plan(mode, regions, threads, committed=committed)
            if not (plan.can_walk or committed):
                return False
            _LOG.debug("%s: %s in %d ranges", mode.value, mb(plan.size), len(plan.ranges))
            stop.plans.append(plan)
            runtime = self.planner.runtime
            base = runtime.base if runtime else 0
            stop.images.append(
                source.image(plan, regions, threads, runtime_base=base, exception=self._exception)
            )
        take(stop, source)
        return True


def _refusal(err: Exception) -> CaptureWarning:
    return CaptureWarning("snapshot", f"the memory was copied instead: {err}")
