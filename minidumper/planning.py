"""Plans of one target: the CLR side is rehearsed before a stop, and asked again inside it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from .clr.answers import ClrRegions
from .clr.client import NOWHERE, ClrClient
from .clr.dac import find_dac
from .clr.runtime import Runtime, find_runtime
from .clr.throwing import throw_site
from .errors import (
    BridgeError,
    ClrError,
    DacNotFoundError,
    HostRuntimeNotFoundError,
    NoClrInTargetError,
    TargetExitedError,
    UnsupportedTargetError,
)
from .plan import CaptureWarning, DumpMode, DumpPlan
from .providers import (
    ModuleRanges,
    native_ranges,
    private_memory,
    readable,
    surroundings,
    without_unused,
)
from .ranges import clip, fill_gaps, union
from .target import Target, ThreadInfo, VmRegion

MAX_BLOCKS = 7_000
"""Blocks of memory in a dump; ClrMD opens no core with more than 10,000 program headers."""

_TORN_TRIES = 5
_TORN_S = 0.005

THROW_SITE = "throw"
"""A function of the runtime that all exceptions pass; `throw;` where there is no RETHROW_HELPER."""
LATE_SITE = "RhThrowEx"
"""A method of .NET 9 and newer that they pass, too, made for the first one."""
THROW_HELPER, RETHROW_HELPER = "CORINFO_HELP_THROW", "CORINFO_HELP_RETHROW"
RANGE_HELPER = "CORINFO_HELP_RNGCHKFAIL"
"""Native code up to .NET 8."""

REHEARSAL_BUDGET_S = 10.0
"""Seconds that the walk before the stop may take; the target runs meanwhile."""

_NO_CLR_SIDE = (
    *(NoClrInTargetError, DacNotFoundError, HostRuntimeNotFoundError),
    *(UnsupportedTargetError, BridgeError),
)
"""Why there is none, where the machine or the process is at fault."""
_INSTEAD = {
    DumpMode.MINIMAL: "managed stacks left out",
    DumpMode.HEAP: "all private memory was taken instead of the exact set",
    DumpMode.FULL: "exceptions are not described",
}
"""What a dump is without the CLR side."""
_GC_BUSY = CaptureWarning(
    "gc",
    "the GC was in the middle of its work, or a thread was making a large object: all committed GC "
    "memory is in the dump, but objects may not be walkable",
)
_KILLED = -9  # SIGKILL, signal(7): by us, as it hung, or by the kernel, as memory ran out
_WITHOUT_CLR = "a full dump (-ma) needs no CLR side; -v shows what that said last"


class Planner:
    """Makes plans for one target; use it in `with`, which ends its worker process."""

    def __init__(
        self,
        target: Target,
        modes: Sequence[DumpMode],
        *,
        dac: Sequence[Path] = (),
        root: str = "",
        user: tuple[int, int] | None = None,
        describes: bool = False,
        falls_back: bool = False,
    ) -> None:
        """Find the runtime, and start the worker where a mode needs it.

        `root` is the prefix under which the target's files are found, `user` whom its DAC runs as.
        `describes` starts the worker whatever the mode, for `exception` and `throw_sites`.
        `falls_back` takes all private memory of the process instead, where the CLR side fails.

        Raises:
            NoClrInTargetError, DacNotFoundError, DacUntrustedError: heap mode cannot serve it.
        """
        self.runtime: Runtime | None = find_runtime(target)
        self.warnings: list[CaptureWarning] = []
        self._target = self._origin = target
        self.thrown = 0
        """Address of an exception that is about to be thrown, and belongs into the dump."""
        self._search = tuple(dac)
        self._root = Path(root or "/")
        self._user = user
        self._client: ClrClient | None = None
        self.falls_back = falls_back
        self._failure: ClrError | UnsupportedTargetError | None = None
        self._skip: tuple[str, ...] = ()
        self._cut_off_s: float | None = None
        self._crashed = False
        folder = str(Path(self.runtime.path).parent) if self.runtime else ""
        self._modules = ModuleRanges(folder)
        if all(mode is DumpMode.FULL for mode in modes) and not describes:
            return
        try:
            if self.runtime is None:
                raise NoClrInTargetError(
                    f"process {target.pid} ({target.name}) has no .NET runtime in it",
                    hint="minimal (-mm) and full (-ma) dumps work for any process",
                )
            _check_libc(target)
            self._start()
        except _NO_CLR_SIDE as err:
            if DumpMode.HEAP in modes and falls_back:
                self._fall_back(err)
            elif DumpMode.HEAP in modes:
                err.hint = err.hint or _WITHOUT_CLR
                raise
            elif self.runtime is not None:
                self._failure = err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_failed(self) -> bool:
        """Whether it does without the CLR side, which could not serve it."""
        return self._failure is not None

    def close(self) -> None:
        """End the worker."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def attach(self, target: Target) -> None:
        """Plan from another copy of the same process from now on: a snapshot, or itself again.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        if self._target is target:
            return
        self._target = target
        if self._client is not None:
            self._client.attach(target.memory_source())

    def rehearse(self, budget_s: float = REHEARSAL_BUDGET_S) -> None:
        """Walk what SOS's commands read, while the target runs; a crash of the DAC is survived.

        What takes longer than `budget_s` is cut off: plans say so, as they lack a part of it.

        Raises:
            BridgeError: the worker fails even without that walk.
        """
        if self._client is None:
            return
        self._cut_off_s = None
        try:
            complete = self._client.rehearse(budget_s)["complete"]
            if not complete and "rehearsal" not in self._skip:
                self._cut_off_s = budget_s
        except BridgeError as err:
            self.restart_without(("rehearsal",), err)

    def restart_without(self, steps: tuple[str, ...], err: BridgeError) -> None:
        """Start a new worker, on the process itself, without the steps in which one crashed.

        The first crash can come of what was in motion, such as a thread that ended: then nothing
        is left out yet.

        Raises:
            BridgeError: they were left out already.
            TargetExitedError: the process ended.
        """
        if not self._origin.regions():  # a process without memory: it has ended
            raise TargetExitedError(
                f"process {self._target.pid} ({self._target.name}) ended meanwhile",
                pid=self._target.pid,
            ) from err
        if self._skip == steps:
            if not self.falls_back:
                err.hint = _WITHOUT_CLR
                raise err
            self._fall_back(err)
            return
        if not (self._skip or self._crashed) and err.exit_status not in (None, _KILLED):
            self._crashed = True
        else:
            self._skip = steps
            self.warnings.append(CaptureWarning("clr", f"{' and '.join(steps)} left out: {err}"))
        self.close()
        self._target = self._origin
        try:
            self._start()
        except BridgeError as again:
            self.restart_without(steps, again)
            return
        self.rehearse()

    def plan(
        self,
        mode: DumpMode,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        *,
        committed: bool = False,
    ) -> DumpPlan:
        """What a dump holds; `committed` takes all committed GC memory instead of what is in use.

        That is for a GC in the middle of its work, which the plan then says.
        `regions` and `threads` are the target's inside the stop; without threads it is an estimate.

        Raises:
            BridgeError: the worker crashed or hangs.
            ClrError: the runtime's structures cannot be read.
        """
        ranges = list(native_ranges(mode, self._target, regions, threads, self._modules))
        clr: ClrRegions | None = None
        warnings = list(self.warnings)
        if mode is not DumpMode.FULL and self._client is not None:
            # A minimal dump searches nothing, so nothing is made ready for it inside the stop.
            heap = mode is DumpMode.HEAP
            around = surroundings(regions, ranges) if heap else NOWHERE
            clr = self._client.collect(
                threads,
                minimal=mode is DumpMode.MINIMAL,
                committed=committed,
                thrown=self.thrown,
                surroundings=around,
            )
            ranges += without_unused(self._target, regions, clr.ranges)
            warnings += clr.warnings
            if self._cut_off_s is not None:
                text = f"the rehearsal took longer than {self._cut_off_s:g} s: a part of what only "
                warnings.append(CaptureWarning("rehearsal", f"{text}the DAC can find is left out"))
        if self._failure:
            warnings.append(CaptureWarning("clr", f"{_INSTEAD[mode]}: {self._failure}"))
            if mode is DumpMode.HEAP:
                ranges += private_memory(regions, self.runtime)
        allowed = readable(regions)
        chosen = fill_gaps(clip(union(ranges), allowed), allowed, MAX_BLOCKS)
        facts = dict(clr.facts) if clr else {}
        if self.runtime is not None:
            facts["runtime"] = self.runtime.version
        plan = DumpPlan(mode, tuple(chosen), tuple(warnings), facts)
        if committed and not plan.can_walk:
            return replace(plan, warnings=(*plan.warnings, _GC_BUSY))
        return plan

    def plan_as_it_is(
        self, mode: DumpMode, regions: Sequence[VmRegion], threads: Sequence[ThreadInfo]
    ) -> DumpPlan:
        """The same, whatever the GC does at this stop: no other one follows.

        Raises:
            BridgeError, ClrError: as `plan`.
        """
        plan = self.plan(mode, regions, threads)
        return plan if plan.can_walk else self.plan(mode, regions, threads, committed=True)

    def exception(self, *, address: int = 0, tid: int = 0) -> Mapping[str, Any]:
        """See `ClrClient.exception`; empty where there is no runtime, too.

        Other threads run on: what is torn in one moment is not in the next.

        Raises:
            BridgeError: the worker crashed or hangs, or failed each time.
        """
        if self._client is None:
            return {}
        tries = _TORN_TRIES
        while True:
            try:
                return self._client.exception(address=address, tid=tid)
            except BridgeError as err:
                tries -= 1
                if err.exit_status is not None or not tries:
                    raise
            time.sleep(_TORN_S)

    def late_throw_site(self) -> int:
        """Where the runtime's own exceptions pass, too: there from the first exception on, else 0.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        try:
            return self._client.late_throw_site() or 0 if self._client else 0
        except BridgeError as err:
            if err.exit_status is not None:
                raise
            return 0  # torn, as the process runs: it is asked for again

    def throw_sites(self) -> Mapping[str, int]:
        """Where to see all that is thrown, by the name of the JIT's helper or of a function.

        Raises:
            NoClrInTargetError: there is no runtime.
            BridgeError: the worker failed, crashed or hung.
        """
        if self._client is None or self.runtime is None:
            raise NoClrInTargetError(
                f"process {self._target.pid} ({self._target.name}) has no .NET runtime that "
                "could tell its exceptions",
                hint="unhandled ones (-e 2) and crashes work for any process",
            )
        helpers = self._helpers(THROW_HELPER, RETHROW_HELPER)
        if len(helpers) == 2:
            throw, rethrow = helpers[THROW_HELPER], helpers[RETHROW_HELPER]
            if site := throw_site(self._target, self.runtime.base, throw, rethrow):
                found = {THROW_SITE: site.address}
                return found if site.sees_rethrows else found | {RETHROW_HELPER: rethrow}
        late = self._client.late_throw_site()
        if late is None:
            return helpers | self._helpers(RANGE_HELPER)
        if late:
            helpers.pop(THROW_HELPER, None)
            helpers[LATE_SITE] = late
        return helpers

    def _helpers(self, *names: str) -> dict[str, int]:
        assert self._client
        assert self.runtime
        found: dict[str, int] = {}
        for region in self._target.regions():
            if region.file_path == self.runtime.path and "x" in region.protection:
                found |= self._client.helpers(region.start, region.end, names)
        return found

    def _fall_back(self, err: ClrError | UnsupportedTargetError) -> None:
        """Do without the CLR side from now on: what it would have found lies in private memory."""
        self.close()
        self._target = self._origin
        self._failure = err

    def open_again(self) -> None:
        """Read a runtime anew that was not yet ready for it."""
        assert self.runtime
        assert self._client
        with find_dac(self.runtime, self._search, self._root, user=self._user) as dac:
            self._client.open_again(self.runtime, dac, self._skip)

    def _start(self) -> None:
        assert self.runtime is not None
        with find_dac(self.runtime, self._search, self._root, user=self._user) as dac:
            self._client = ClrClient.start(
                self._target, self.runtime, dac, user=self._user, skip=self._skip
            )


def _check_libc(target: Target) -> None:
    """Refuse a target of musl: its DAC cannot be loaded into a process of glibc.

    Raises:
        UnsupportedTargetError: it is one.
    """
    # One file is both its libc.so and its ld-musl-ARCH.so.1; glibc's have a number: libc.so.6.
    names = [Path(module.path).name for module in target.modules()]
    if any(name == "libc.so" or name.startswith("ld-musl-") for name in names):
        raise UnsupportedTargetError(
            f"process {target.pid} ({target.name}) runs on musl, whose DAC does not load here",
            pid=target.pid,
            name=target.name,
            hint="take a minimal (-mm) or full (-ma) dump",
        )
