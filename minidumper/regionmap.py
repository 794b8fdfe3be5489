"""What a dump would hold, region by region: the plan of a dump, laid over the address space."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import platforms
from .dumpfile import open_dump
from .errors import CaptureError
from .plan import CaptureWarning, DumpMode, DumpPlan, describe
from .planning import Planner
from .ranges import PAGE_SIZE, MemoryRange, Reason, ReasonedRange, chunks, joined
from .target import LiveTarget, Target, VmRegion

REHEARSAL_S = 0.15
"""Seconds for a look at what the DAC reads; a dump takes longer and finds some MB more."""
_SHORT = CaptureWarning("rehearsal", "a short look; a dump may hold a few MB more")

_SAMPLE = 32 << 20
"""Bytes that are copied to measure the speed: 10 ms of memory."""
_SAMPLE_CHUNK = 4 << 20


_HALT_S = 0.005
_FORK_S = 2e-7
"""Seconds to halt all threads, and of a fork for each resident page (1 GB: 28 to 88 ms, seen)."""


class RegionRow(NamedTuple):
    """A part of a region, all of which has the same reasons; none where a dump leaves it out.

    `resident` (bytes) is what of it must be read: the rest is certain to be zero.
    """

    start: int
    end: int
    resident: int
    protection: str
    path: str
    reasons: Reason

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a dump would cost. Sizes are bytes, speeds bytes a second; None is not known.

    `size` counts pages that are zero, `disk_size` does not: they become holes. The process stands
    still for `pause_s` while the file is written, with --async only for `async_pause_s`: that of a
    snapshot, or where none can be had of a copy into memory.
    """

    size: int
    disk_size: int
    pause_s: float | None
    async_pause_s: float | None
    copy_speed: float | None
    write_speed: float | None
    free_disk: int
    free_memory: int
    memory_limit: str


@dataclass(frozen=True, slots=True)
class RegionMap:
    """The address space of a process or a dump, and what a dump of `mode` would hold of it."""

    source: str
    name: str
    pid: int
    mode: DumpMode
    rows: tuple[RegionRow, ...]
    warnings: tuple[str, ...]
    facts: dict[str, object] = field(default_factory=dict)
    stopped_s: float = 0.0
    """How long the process stood still for this."""
    estimate: Estimate | None = None
    """None for a dump file."""

    def by_reason(self) -> dict[Reason, tuple[int, int]]:
        """Bytes and resident bytes under each reason; a row with several counts under each."""
        totals = {}
        for reason in Reason:
            rows = [row for row in self.rows if row.reasons & reason]
            if rows:
                totals[reason] = (sum(r.size for r in rows), sum(r.resident for r in rows))
        return totals

    def left_out(self) -> tuple[int, int]:
        """Bytes and resident bytes that are readable, and that a dump of this mode lacks."""
        rows = [row for row in self.rows if not row.reasons and row.protection[0] == "r"]
        return sum(row.size for row in rows), sum(row.resident for row in rows)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        left_out = self.left_out()
        estimate = self.estimate
        return {
            "source": self.source,
            "name": self.name,
            "pid": self.pid,
            "mode": self.mode.value,
            "totals": {
                reason.name: {"size": size, "resident": resident}
                for reason, (size, resident) in self.by_reason().items()
            },
            "left_out": {"size": left_out[0], "resident": left_out[1]},
            "estimate": {key: getattr(estimate, key) for key in estimate.__slots__}
            if estimate
            else None,
            "stopped_s": round(self.stopped_s, 6),
            "clr": self.facts,
            "warnings": list(self.warnings),
            "regions": [row_dict(row) for row in self.rows],
        }


def row_dict(row: RegionRow) -> dict[str, object]:
    """A row as plain values."""
    return {
        "start": f"0x{row.start:x}",
        "end": f"0x{row.end:x}",
        "size": row.size,
        "resident": row.resident,
        "protection": row.protection,
        "path": row.path,
        "reasons": reason_names(row.reasons),
    }


def reason_names(reasons: Reason) -> list[str]:
    """The names of single reasons."""
    return [str(reason.name) for reason in Reason if reasons & reason]


def map_process(
    process: int | str,
    mode: DumpMode = DumpMode.HEAP,
    *,
    dac: Sequence[Path] = (),
    rehearsal_s: float = REHEARSAL_S,
) -> RegionMap:
    """What a dump of a live process would hold, from a short stop.

    `rehearsal_s` is how long the look at what the DAC reads may take before the stop.

    Raises:
        TargetError, ClrError: as a capture.
    """
    with ExitStack() as stack:
        target = stack.enter_context(platforms.open_target(process))
        planner = stack.enter_context(
            Planner(target, [mode], dac=dac, root=target.root, user=target.user)
        )
        planner.rehearse(rehearsal_s)
        began = time.perf_counter()
        with target.stopped():
            regions = target.regions()
            plan = planner.plan_as_it_is(mode, regions, target.threads())
        stopped_s = time.perf_counter() - began
        rows = tuple(region_rows(target, regions, plan.ranges))
        return RegionMap(
            source=str(target.pid),
            name=target.name,
            pid=target.pid,
            mode=mode,
            rows=rows,
            warnings=tuple(describe(_of_a_look((*target.warnings, *plan.warnings)))),
            facts=dict(plan.clr),
            stopped_s=stopped_s,
            estimate=_estimate(target, regions, plan, rows, stopped_s),
        )


def _of_a_look(warnings: Sequence[CaptureWarning]) -> list[CaptureWarning]:
    """That the rehearsal was cut off means something else here: a dump has the time."""
    return [_SHORT if warning.stage == "rehearsal" else warning for warning in warnings]


def map_dump(
    path: str | os.PathLike[str], mode: DumpMode = DumpMode.HEAP, *, dac: Sequence[Path] = ()
) -> RegionMap:
    """What a dump file holds, and why a dump of `mode` would hold it.

    Raises:
        DumpFormatError: it is no dump, or a damaged one.
        ClrError: its runtime cannot be read.
    """
    with open_dump(path) as dump:
        regions = dump.regions()
        with Planner(dump, [mode], dac=dac) as planner:
            planner.rehearse()
            plan = planner.plan_as_it_is(mode, regions, dump.threads())
        return RegionMap(
            source=os.fspath(path),
            name=dump.name,
            pid=dump.pid,
            mode=mode,
            rows=tuple(region_rows(dump, regions, plan.ranges)),
            warnings=tuple(describe(plan.warnings)),
            facts=dict(plan.clr),
        )


def region_rows(
    target: Target, regions: Sequence[VmRegion], ranges: Sequence[ReasonedRange]
) -> Iterator[RegionRow]:
    """Each region, cut where the reasons change; both sorted and disjoint."""
    first = 0
    for region in regions:
        while first < len(ranges) and ranges[first].end <= region.start:
            first += 1
        at, index = region.start, first
        while at < region.end:
            reasons, end = Reason(0), region.end
            if index < len(ranges) and ranges[index].start < region.end:
                if ranges[index].start > at:
                    end = ranges[index].start
                else:
                    reasons, end = ranges[index].reasons, min(end, ranges[index].end)
                    index += 1
            yield _row(target, regions, region, MemoryRange(at, end), reasons)
            at = end


def _row(
    target: Target,
    regions: Sequence[VmRegion],
    region: VmRegion,
    span: MemoryRange,
    reasons: Reason,
) -> RegionRow:
    # What cannot be read is not looked at: hundreds of gigabytes are reserved.
    runs = target.resident(regions, span) if region.readable else ()
    resident = sum(run.size for run in runs)
    return RegionRow(*span, resident, region.protection, region.path, reasons)


def _estimate(
    target: LiveTarget,
    regions: Sequence[VmRegion],
    plan: DumpPlan,
    rows: Sequence[RegionRow],
    stopped_s: float,
) -> Estimate:
    blocks = [run for block in joined(plan.ranges) for run in target.resident(regions, block)]
    size = sum(block.size for block in blocks)
    backend = platforms.backend()
    free_memory, limit = backend.free_memory()
    copy_speed, write_speed = _speeds(target, blocks)
    copy_s = size / copy_speed if copy_speed else None
    write_s = size / write_speed if write_speed else None
    return Estimate(
        size=plan.size,
        disk_size=size,
        pause_s=stopped_s + copy_s + write_s if copy_s and write_s else None,
        async_pause_s=_snapshot_s(target, rows) or (stopped_s + copy_s if copy_s else None),
        copy_speed=copy_speed,
        write_speed=write_speed,
        free_disk=backend.free_space(os.path.abspath("dump")),
        free_memory=free_memory,
        memory_limit=limit,
    )


def _snapshot_s(target: LiveTarget, rows: Sequence[RegionRow]) -> float | None:
    """How long a fork holds the process, about; None where there are no snapshots of it."""
    try:
        if platforms.backend().prepare_snapshot(target) is None:
            return None
    except CaptureError:
        return None
    own = sum(row.resident for row in rows if not row.path.startswith("/"))
    return _HALT_S + own / PAGE_SIZE * _FORK_S


def _speeds(target: LiveTarget, blocks: Sequence[MemoryRange]) -> tuple[float | None, float | None]:
    """Bytes a second of reading the process and of writing to this folder, by a sample."""
    buffer = memoryview(bytearray(_SAMPLE_CHUNK))
    done, read_s, write_s = 0, 0.0, 0.0
    try:
        with tempfile.TemporaryFile(dir=".") as file:
            for chunk in chunks(blocks, _SAMPLE_CHUNK):
                began = time.perf_counter()
                count = target.memory.read_into(chunk.start, buffer[: chunk.size])
                between = time.perf_counter()
                file.write(buffer[:count])
                done, read_s = done + count, read_s + between - began
                write_s += time.perf_counter() - between
                if done >= _SAMPLE:
                    break
    except OSError:  # a folder where nothing can be written
        write_s = 0.0
    return _speed(done, read_s), _speed(done, write_s)


def _speed(size: int, seconds: float) -> float | None:
    return size / seconds if size and seconds else None


class Change(NamedTuple):
    """A range whose reasons differ; None is an address space without this range."""

    start: int
    end: int
    before: Reason | None
    after: Reason | None


def differences(one: RegionMap, other: RegionMap) -> list[Change]:
    """Where two maps give other reasons, sorted by address."""
    edges = sorted({edge for row in (*one.rows, *other.rows) for edge in (row.start, row.end)})
    found: list[Change] = []
    sides = [(rows, [row.start for row in rows]) for rows in (one.rows, other.rows)]
    for start, end in itertools.pairwise(edges):
        before, after = (_reasons_at(rows, starts, start) for rows, starts in sides)
        if before == after or not (before or after):
            continue
        if found and found[-1].end == start and found[-1][2:] == (before, after):
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Change(start, end, before, after))
    return found


def _reasons_at(rows: Sequence[RegionRow], starts: Sequence[int], address: int) -> Reason | None:
    index = bisect_right(starts, address) - 1
    return rows[index].reasons if index >= 0 and address < rows[index].end else None
