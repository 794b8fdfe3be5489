"""Take dumps: stop, plan, write, resume; the same plan serves those who only look."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from . import platforms
from ._version import __version__
from .errors import BridgeError, ClrError, InsufficientMemoryError, OutputError
from .naming import output_paths
from .plan import CaptureWarning, DumpMode, DumpPlan
from .planning import Planner
from .ranges import joined
from .report import CaptureReport
from .target import DumpImage, LiveTarget, MemoryCopied, Output, ThreadInfo, VmRegion

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes written and the bytes to write, of all files of one stop together."""

GC_RETRIES = 5
"""Stops that are given up because the GC was in the middle of its work."""

_GC_PAUSE_S = 0.02  # a gen 0 collection of a busy server takes about this long
_MARGIN = 16 << 20  # bytes that must stay free beside a dump or a copy


@dataclass(slots=True)
class _Stop:
    """What one stop gave: a plan and a laid out image for each output."""

    plans: list[DumpPlan] = field(default_factory=list)
    images: list[DumpImage] = field(default_factory=list)
    copies: list[MemoryCopied] = field(default_factory=list)
    warnings: list[CaptureWarning] = field(default_factory=list)
    pause_s: float = 0.0


class Capture:
    """Dumps of one live target; the CLR side stays warm between them. Use it in `with`."""

    def __init__(
        self, target: LiveTarget, modes: Sequence[DumpMode], *, dac: Sequence[Path] = ()
    ) -> None:
        """Get ready: everything that can be found out before a stop is.

        Raises:
            ClrError: heap mode cannot serve this target.
        """
        self.target = target
        self.modes = tuple(modes)
        self._backend = platforms.backend()
        began = time.monotonic()
        self._planner = Planner(target, modes, dac=dac, root=target.root, user=target.user)
        self._rehearsed = True
        try:
            self._planner.rehearse()
        except BaseException:
            self._planner.close()
            raise
        runtime = self._planner.runtime
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
        self._planner.close()

    def plans(self) -> list[DumpPlan]:
        """The plans of one short stop, nothing written."""
        self._rehearse_again()
        return self._stop(lambda stop, regions, threads: None).plans

    def write(
        self,
        paths: Sequence[str],
        *,
        async_copy: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> list[CaptureReport]:
        """One dump for each mode, all of one stop; none appears unless all are whole.

        Raises:
            OutputError: a file cannot be written; found before the stop where possible.
            InsufficientMemoryError: `async_copy` would not fit into memory.
            MiniDumperError: any other failure; the target runs on, no file is left.
        """
        began = time.monotonic()
        self._rehearse_again()
        with ExitStack() as stack:
            outputs = [
                stack.enter_context(self._backend.output(path, overwrite=overwrite))
                for path in paths
            ]
            self._check_disk(outputs)
            write_s = 0.0
            meter = _Meter(progress)

            def inside(stop: _Stop, regions: Sequence[VmRegion], threads: object) -> None:
                nonlocal write_s
                meter.total = sum(image.data_size for image in stop.images)
                if async_copy:
                    self._check_memory(meter.total)
                    for image in stop.images:
                        stop.copies.append(image.copy(self.target.memory))
                        stack.callback(stop.copies[-1].close)
                else:
                    write_s = self._write_all(stop, outputs, meter)

            stop = self._stop(inside)
            if async_copy:
                write_s = self._write_all(stop, outputs, meter)
            return self._finish(stop, outputs, began=began, write_s=write_s, async_copy=async_copy)

    def _rehearse_again(self) -> None:
        """Rehearse before every stop but the first: methods are compiled anew all the time."""
        if not self._rehearsed:
            self._planner.rehearse()
        self._rehearsed = False

    def _stop(
        self, inside: Callable[[_Stop, Sequence[VmRegion], Sequence[ThreadInfo]], None]
    ) -> _Stop:
        """Stop, plan, do `inside`, resume; again while the GC is in the middle of its work."""
        for attempt in range(GC_RETRIES + 1):
            last = attempt == GC_RETRIES
            stop = _Stop()
            began = time.monotonic()
            try:
                with self.target.stopped():
                    done = self._inside_stop(stop, inside, committed=last)
            except BridgeError as err:
                _LOG.debug("the CLR side failed, and starts anew: %s", err)
                self._planner.restart_without(("rehearsal", "stacks"), err)
                continue
            stop.pause_s = time.monotonic() - began
            stop.warnings += self.target.warnings
            _LOG.debug("the process stood still for %.1f ms", stop.pause_s * 1000)
            if done:
                return stop
            _LOG.info("the GC is in the middle of its work; waiting for its end")
            time.sleep(_GC_PAUSE_S * (attempt + 1))
        raise AssertionError("the last attempt takes what is there")

    def _inside_stop(
        self,
        stop: _Stop,
        inside: Callable[[_Stop, Sequence[VmRegion], Sequence[ThreadInfo]], None],
        *,
        committed: bool,
    ) -> bool:
        regions = self.target.regions()
        threads = self.target.threads()
        for mode in self.modes:
            plan = self._planner.plan(mode, regions, threads, committed=committed)
            if mode is DumpMode.HEAP and not plan.clr.get("can_walk", True):
                if not committed:
                    return False
                stop.warnings.append(
                    CaptureWarning(
                        "gc",
                        "the GC was in the middle of its work at each stop: all committed GC "
                        "memory is in the dump, but objects may not be walkable",
                    )
                )
            _LOG.debug("%s: %s in %d ranges", mode.value, _mb(plan.size), len(plan.ranges))
            stop.plans.append(plan)
            runtime = self._planner.runtime
            stop.images.append(
                self.target.image(
                    plan, regions, threads, runtime_base=runtime.base if runtime else 0
                )
            )
        inside(stop, regions, threads)
        return True

    def _write_all(self, stop: _Stop, outputs: Sequence[Output], meter: _Meter) -> float:
        began = time.monotonic()
        for index, (image, output) in enumerate(zip(stop.images, outputs, strict=True)):
            source = stop.copies[index] if stop.copies else self.target.memory
            try:
                image.write(source, output.descriptor, meter.file_progress)
            except OSError as err:
                raise self._backend.output_error(err, output.path) from err
            meter.file_done()
        return time.monotonic() - began

    def _finish(
        self,
        stop: _Stop,
        outputs: Sequence[Output],
        *,
        began: float,
        write_s: float,
        async_copy: bool,
    ) -> list[CaptureReport]:
        reports = []
        for plan, image, output in zip(stop.plans, stop.images, outputs, strict=True):
            warnings = (*stop.warnings, *plan.warnings, *image.warnings)
            report = CaptureReport(
                path=output.path,
                mode=plan.mode,
                pid=self.target.pid,
                name=self.target.name,
                size=image.file_size,
                disk_size=0,
                pause_s=stop.pause_s,
                write_s=write_s,
                total_s=time.monotonic() - began,
                async_copy=async_copy,
                totals=plan.by_reason(),
                clr=dict(plan.clr),
                warnings=warnings,
            )
            own = {"version": __version__, "time": datetime.now(UTC).isoformat()}
            try:
                image.seal(output.descriptor, own | report.as_dict())
            except OSError as err:
                raise self._backend.output_error(err, output.path) from err
            reports.append(report)
        return [
            dataclasses.replace(report, disk_size=output.commit())
            for report, output in zip(reports, outputs, strict=True)
        ]

    def _check_disk(self, outputs: Sequence[Output]) -> None:
        """Find too little disk before the stop, from an estimate on the running target.

        Raises:
            OutputError: the dumps would not fit.
        """
        try:
            regions = self.target.regions()
            plans = [self._planner.plan(mode, regions, ()) for mode in self.modes]
            size = sum(
                run.size
                for plan in plans
                for block in joined(plan.ranges)
                for run in self.target.resident(regions, block)
            )
        except ClrError:
            return  # structures in motion: the target runs; the stop will show
        free = self._backend.free_space(outputs[0].path)
        if size + _MARGIN > free:
            raise OutputError(
                f"not enough disk for {outputs[0].path}: about {_mb(size)} needed, "
                f"{_mb(free)} free",
                stage="output",
                path=outputs[0].path,
                hint="free some space, or choose another folder with -o",
            )

    def _check_memory(self, size: int) -> None:
        free, whose = self._backend.free_memory()
        if size + _MARGIN > free:
            raise InsufficientMemoryError(
                f"a copy into memory needs {_mb(size)}, but {_mb(max(free, 0))} are left ({whose})",
                stage="copy",
                hint="leave out --async: the dump is then written while the target stands still",
            )


class _Meter:
    """Adds up the progress of several files."""

    def __init__(self, progress: Progress | None) -> None:
        self.total = 0
        self._progress = progress
        self._before = 0
        self._now = 0

    def file_progress(self, written: int) -> None:
        self._now = self._before + written
        if self._progress:
            self._progress(self._now, self.total)

    def file_done(self) -> None:
        self._before = self._now


def write_dump(
    process: int | str | LiveTarget,
    mode: DumpMode | str = DumpMode.HEAP,
    path: str | None = None,
    *,
    async_copy: bool = False,
    overwrite: bool = False,
    dac: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> CaptureReport:
    """Dump a process, given by pid, name or as an open target, to `path`.

    `path` may be a folder or hold tokens (PROCESSNAME PID YYMMDD HHMMSS); without it the file goes
    to the current folder under its default name. `async_copy` copies into memory first, so that
    the target runs on while the file is written.

    Raises:
        TargetError, ClrError, CaptureError: it says what failed; the target runs on, and no file
            is left.
    """
    writer = DumpWriter(
        mode, async_copy=async_copy, overwrite=overwrite, dac=dac, progress=progress
    )
    return writer.write(process, path)


def plan_dump(
    process: int | str | LiveTarget,
    mode: DumpMode | str = DumpMode.HEAP,
    *,
    dac: Sequence[str | Path] = (),
) -> DumpPlan:
    """What a dump would hold, from a short stop of the target.

    Raises:
        TargetError, ClrError: as `write_dump`.
    """
    with ExitStack() as stack:
        target = _opened(process, stack)
        capture = Capture(target, [_mode(mode)], dac=[Path(item) for item in dac])
        return stack.enter_context(capture).plans()[0]


class DumpWriter:
    """Writes dumps of one mode with the same options, one target after another."""

    def __init__(
        self,
        mode: DumpMode | str = DumpMode.HEAP,
        *,
        async_copy: bool = False,
        overwrite: bool = False,
        dac: Sequence[str | Path] = (),
        progress: Progress | None = None,
    ) -> None:
        """See `write_dump` for the options."""
        self.mode = _mode(mode)
        self._async_copy = async_copy
        self._overwrite = overwrite
        self._dac = [Path(item) for item in dac]
        self._progress = progress

    def write(self, process: int | str | LiveTarget, path: str | None = None) -> CaptureReport:
        """Dump a process; see `write_dump`.

        Raises:
            TargetError, ClrError, CaptureError: as `write_dump`.
        """
        with ExitStack() as stack:
            target = _opened(process, stack)
            (file,) = output_paths(
                path,
                [self.mode],
                name=target.name,
                pid=target.pid,
                when=datetime.now(),
                overwrite=self._overwrite,
            )
            capture = stack.enter_context(Capture(target, [self.mode], dac=self._dac))
            (report,) = capture.write(
                [file],
                async_copy=self._async_copy,
                overwrite=self._overwrite,
                progress=self._progress,
            )
            return report


def _opened(process: int | str | LiveTarget, stack: ExitStack) -> LiveTarget:
    if isinstance(process, int | str):
        return stack.enter_context(platforms.open_target(process))
    return process


def _mode(mode: DumpMode | str) -> DumpMode:
    return mode if isinstance(mode, DumpMode) else DumpMode.parse(mode)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
