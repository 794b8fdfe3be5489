"""A full dump made into a smaller one: the same plan and the same writers, on a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import platforms
from ._version import __version__
from .dumpfile import DumpFile, open_dump
from .errors import ClrError, UsageError
from .images.sparse import SparseOutput
from .naming import STANDARD_OUTPUT
from .outputs import open_output
from .plan import CaptureWarning, DumpMode, DumpPlan
from .planning import Planner
from .ranges import Reason
from .report import warning_dict

_KEPT = ("time", "pause_s", "trigger", "exception")
"""What the own note of a full dump tells of its stop."""
_WHOLE_WALK_S = 600.0  # seconds; the file holds still, so the walk may go to its end


@dataclass(frozen=True, slots=True)
class StripReport:
    """What became of a full dump. Sizes are bytes."""

    path: str
    source: str
    mode: DumpMode
    pid: int
    name: str
    size: int
    """Apparent size of the file, unpacked."""
    disk_size: int
    source_size: int
    """What the full dump takes on the disk."""
    totals: dict[Reason, int]
    """Bytes under each reason; a page with several counts under each."""
    clr: dict[str, Any]
    warnings: tuple[CaptureWarning, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "path": self.path,
            "source": self.source,
            "mode": self.mode.value,
            "pid": self.pid,
            "name": self.name,
            "size": self.size,
            "disk_size": self.disk_size,
            "source_size": self.source_size,
            "totals": {reason.name: size for reason, size in self.totals.items()},
            "clr": self.clr,
            "warnings": [warning_dict(warning) for warning in self.warnings],
        }


def strip(
    full: str | os.PathLike[str],
    place: str,
    mode: DumpMode = DumpMode.HEAP,
    *,
    dac: Sequence[str | Path] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> StripReport:
    """Write to `place` what a dump of that mode would have been, had it been taken instead.

    `dac` are files or folders with the runtime's DAC, for dumps from elsewhere. `progress` is told
    the bytes written, and how many there are.

    Raises:
        DumpFormatError: `full` is no dump, or a damaged one.
        ClrError: its runtime cannot be read, or its heap is not whole.
        OutputError: the file cannot be written.
    """
    if mode is DumpMode.FULL:
        raise UsageError("a full dump stays what it is", hint="choose -mh (heap) or -mm (minimal)")
    if place == STANDARD_OUTPUT:
        raise UsageError("a stripped dump cannot go to standard output", hint="give -o a file")
    backend = platforms.backend()
    search = [Path(item) for item in dac]
    with ExitStack() as stack:
        dump = stack.enter_context(open_dump(full))
        planner = stack.enter_context(Planner(dump, [mode], dac=search))
        planner.rehearse(_WHOLE_WALK_S)
        if planner.warnings and mode is DumpMode.HEAP:  # the DAC crashed
            raise ClrError(
                f"{dump.path} cannot be read in full: {planner.warnings[0].message}",
                hint="it lacks memory; before gcore: echo 0x7f > /proc/PID/coredump_filter",
            )
        plan = _plan(dump, planner, mode)
        base = planner.runtime.base if planner.runtime else 0
        image = dump.image(plan, runtime_base=base)
        # A compressed dump, and those of others, do not tell where they are zero.
        output = SparseOutput(open_output(backend, place, stack, overwrite=overwrite))
        total = image.data_size
        try:
            image.write(dump.memory, output, (lambda n: progress(n, total)) if progress else None)
            report = StripReport(
                path=output.path,
                source=os.fspath(full),
                mode=mode,
                pid=dump.pid,
                name=dump.name,
                size=image.file_size,
                disk_size=0,
                source_size=dump.disk_size,
                totals=plan.by_reason(),
                clr=dict(plan.clr),
                warnings=(*plan.warnings, *image.warnings),
            )
            image.seal(output, _own(dump) | report.as_dict())
            return replace(report, disk_size=output.commit())
        except OSError as err:
            raise backend.output_error(err, output.path) from err


def _plan(dump: DumpFile, planner: Planner, mode: DumpMode) -> DumpPlan:
    plan = planner.plan_as_it_is(mode, dump.regions(), dump.threads())
    if mode is not DumpMode.HEAP:
        return plan
    held = plan.by_reason().get(Reason.GC_HEAP, 0)
    wanted: int = plan.clr.get("gc_bytes", 0)  # type: ignore[assignment]
    if held < wanted:
        raise ClrError(
            f"the GC heap is not in {dump.path}: {held:,} of {wanted:,} bytes",
            hint="a minimal dump has none; strip a full dump (-ma)",
        )
    return plan


def _own(dump: DumpFile) -> dict[str, object]:
    told = dump.note or {}
    own: dict[str, object] = {"version": __version__, "time": datetime.now(UTC).isoformat()}
    return own | {key: told[key] for key in _KEPT if key in told}
