"""The files of one stop: room for them, their bytes, and in the end their names."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from ._version import __version__
from .errors import ClrError, InsufficientMemoryError, OutputError
from .images.sequential import LEVEL, PackedLater, PackedOutput, PipeOutput
from .naming import PACKED_SUFFIX, STANDARD_OUTPUT
from .plan import CaptureWarning, DumpMode, DumpPlan
from .planning import Planner
from .ranges import joined
from .report import CaptureReport, Moment, Way
from .target import CaptureBackend, DumpImage, LiveTarget, MemoryCopied, MemoryReader, Output

Progress = Callable[[int, int], None]
"""Called with the bytes written and the bytes to write, of all files of one stop together."""

_MOST_WARNINGS = 200  # in a dump's own note
_MARGIN = 16 << 20  # bytes that must stay free beside a dump or a copy


@dataclass(slots=True)
class Stop:
    """What one stop gave: a plan and a laid out image for each output."""

    way: Way
    plans: list[DumpPlan] = field(default_factory=list)
    images: list[DumpImage] = field(default_factory=list)
    copies: list[MemoryCopied] = field(default_factory=list)
    warnings: list[CaptureWarning] = field(default_factory=list)
    pause_s: float = 0.0
    copied_on_write: int | None = 0

    @property
    def size(self) -> int:
        """Bytes of memory to copy."""
        return sum(image.data_size for image in self.images)


class Outputs:
    """One file for each dump of a stop; none appears unless all are whole. Use it in `with`."""

    def __init__(
        self,
        backend: CaptureBackend,
        paths: Sequence[str],
        *,
        overwrite: bool = False,
        level: int | None = None,
        asynchronous: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Open the files.

        `level` is that of zstd for files that shall be compressed, None for those alone whose name
        ends in .zst. The path "-" is standard output. `asynchronous` tells that the target runs
        while they are written.

        Raises:
            OutputError: one cannot be written.
        """
        self._backend = backend
        self._meter = _Meter(progress)
        self._began = time.monotonic()
        self._write_s = 0.0
        with ExitStack() as self._stack:
            self._files = [
                open_output(
                    backend,
                    path,
                    self._stack,
                    overwrite=overwrite,
                    level=level,
                    at_once=asynchronous and backend.sequential,
                    pulse=self._meter.pulse,
                )
                for path in paths
            ]
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cancel(self) -> None:
        """Have what writes them in another thread end by a CancelledError, soon."""
        self._meter.cancelled = True

    def check_disk(self, target: LiveTarget, planner: Planner, modes: Sequence[DumpMode]) -> None:
        """Find too little disk before the stop, from an estimate on the running target.

        Raises:
            OutputError: the dumps would not fit.
        """
        path = self._files[0].path
        if path == STANDARD_OUTPUT:
            return
        try:
            regions = target.regions()
            plans = [planner.plan(mode, regions, ()) for mode in modes]
            size = sum(
                run.size
                for plan in plans
                for block in joined(plan.ranges)
                for run in target.resident(regions, block)
            )
        except ClrError:
            return  # structures in motion: the target runs; the stop will show
        free = self._backend.free_space(path)
        # A plain file and the compressed one, or that alone; a third is much.
        share = {PackedLater: 1.3, PackedOutput: 0.3}.get(type(self._files[0]), 1.0)
        size = int(size * share)
        if size + _MARGIN > free:
            raise OutputError(
                f"not enough disk for {path}: about {mb(size)} needed, {mb(free)} free",
                stage="output",
                path=path,
                hint="free some space, or choose another folder with -o",
            )

    def take(self, stop: Stop, source: LiveTarget) -> None:
        """Write all dumps of a source that holds still, or copy it, to write it in `finish`.

        Raises:
            OutputError: a file cannot be written.
            InsufficientMemoryError: the copy would not fit into memory.
        """
        if stop.way is Way.COPY:
            self._copy(stop, source.memory)
        else:
            self._write(stop, [source.memory] * len(self._files))

    def _copy(self, stop: Stop, source: MemoryReader) -> None:
        free, whose = self._backend.free_memory()
        if stop.size + _MARGIN > free:
            raise InsufficientMemoryError(
                f"a copy into memory needs {mb(stop.size)}, but {mb(max(free, 0))} are left "
                f"({whose})",
                stage="copy",
                hint="leave out --async: the dump is then written while the target stands still",
            )
        for image in stop.images:
            stop.copies.append(image.copy(source))
            self._stack.callback(stop.copies[-1].close)

    def _write(self, stop: Stop, sources: Sequence[MemoryReader | MemoryCopied]) -> None:
        began = time.monotonic()
        self._meter.total = stop.size
        for image, output, source in zip(stop.images, self._files, sources, strict=True):
            try:
                image.write(source, output, self._meter.file_progress)
            except OSError as err:
                raise self._backend.output_error(err, output.path) from err
            self._meter.file_done()
        self._write_s = time.monotonic() - began

    def finish(
        self, stop: Stop, pid: int, name: str, moment: Moment | None = None
    ) -> list[CaptureReport]:
        """Write the copies, put the report into each file, and give it its name.

        Raises:
            OutputError: the disk failed, or a name was taken meanwhile.
        """
        if stop.copies:
            self._write(stop, stop.copies)
        reports = []
        for plan, image, output in zip(stop.plans, stop.images, self._files, strict=True):
            report = CaptureReport(
                path=output.path,
                mode=plan.mode,
                pid=pid,
                name=name,
                size=image.file_size,
                disk_size=0,
                pause_s=stop.pause_s,
                write_s=self._write_s,
                total_s=time.monotonic() - self._began,
                way=stop.way,
                copied_on_write=stop.copied_on_write,
                totals=plan.by_reason(),
                clr=dict(plan.clr),
                warnings=(*stop.warnings, *plan.warnings, *image.warnings),
                moment=moment,
            )
            own = {"version": __version__, "time": datetime.now(UTC).isoformat()}
            try:
                image.seal(output, own | _cut(report.as_dict()))
            except OSError as err:
                raise self._backend.output_error(err, output.path) from err
            reports.append(report)
        return [
            dataclasses.replace(
                report,
                disk_size=self._commit(output),
                total_s=time.monotonic() - self._began,
            )
            for report, output in zip(reports, self._files, strict=True)
        ]

    def _commit(self, output: Output) -> int:
        try:
            return output.commit()
        except OSError as err:
            raise self._backend.output_error(err, output.path) from err


def _cut(report: dict[str, Any]) -> dict[str, Any]:
    """A report for a dump, where there is room for so many warnings."""
    rest = len(report["warnings"]) - _MOST_WARNINGS
    if rest > 0:
        more = {"stage": "capture", "message": f"and {rest} warnings more"}
        report["warnings"] = [*report["warnings"][:_MOST_WARNINGS], more]
    return report


def open_output(
    backend: CaptureBackend,
    path: str,
    stack: ExitStack,
    *,
    overwrite: bool,
    level: int | None = None,
    at_once: bool = False,
    pulse: Callable[[], None] = lambda: None,
) -> Output:
    """The way out to a file, to a compressed one, or to standard output; `stack` closes it.

    Without `at_once` a file is compressed when it is whole, as to compress takes longer than to
    write; `pulse` is called meanwhile.
    """
    if level is None and path.endswith(PACKED_SUFFIX):
        level = LEVEL
    if path == STANDARD_OUTPUT:
        at_once = True
        file: Output = PipeOutput(sys.stdout.fileno(), path)
    else:
        file = backend.output(path, overwrite=overwrite)
    stack.enter_context(file)
    if level is None:
        return file
    packed = stack.enter_context(PackedOutput(file, level))
    if at_once:
        return packed
    plain = stack.enter_context(backend.output(path, overwrite=overwrite))
    return PackedLater(plain, packed, pulse)


class _Meter:
    """Adds up the progress of several files."""

    def __init__(self, progress: Progress | None) -> None:
        self.total = 0
        self.cancelled = False
        self._progress = progress
        self._before = 0
        self._now = 0

    def pulse(self) -> None:
        if self.cancelled:
            raise CancelledError

    def file_progress(self, written: int) -> None:
        self.pulse()
        self._now = self._before + written
        if self._progress:
            self._progress(self._now, self.total)

    def file_done(self) -> None:
        self._before = self._now


def mb(size: int) -> str:
    """Bytes for people: 1 MB is 1,000,000 bytes."""
    return f"{size / 1e6:,.1f} MB"
