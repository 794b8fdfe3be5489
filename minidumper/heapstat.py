"""The types of a heap by count and bytes, of a live process or a dump."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import platforms
from .clr.answers import HeapRow
from .clr.client import ClrClient, Progress
from .clr.dac import find_dac
from .clr.runtime import Runtime, find_runtime
from .dumpfile import DumpFile, open_dump
from .errors import BridgeError, CaptureError, ClrError, NoClrInTargetError
from .ranges import MemoryRange, Reason, clip
from .target import LiveTarget, Target

MOMENTS = 10
"""Looks at a live process whose GC is in the middle of its work, before that is put up with."""

NAMELESS = "(unknown)"
"""Stands for types whose metadata is not in a dump."""

_GC_PAUSE_S = 0.02  # a gen 0 collection of a busy server takes about this long


@dataclass(frozen=True, slots=True)
class HeapStatistics:
    """All objects of a heap, by type, module and generation; sizes are bytes.

    `stopped_s` is how long a live process stood still, `warnings` what was not as usual.
    """

    source: str
    name: str
    pid: int
    rows: tuple[HeapRow, ...]
    stopped_s: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Objects."""
        return sum(row.count for row in self.rows)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(row.size for row in self.rows)


@dataclass(frozen=True, slots=True)
class TypeRow:
    """Objects of a type; `generation` is "" where all are taken together."""

    type: str
    generation: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class TypeChange:
    """Objects of a type in two heaps."""

    type: str
    generation: str
    count_before: int
    count_after: int
    size_before: int
    size_after: int


def of_process(
    process: int | str, *, dac: Sequence[Path] = (), progress: Progress | None = None
) -> HeapStatistics:
    """The heap of a live process, from a snapshot; where none can be had, from a longer stop.

    Raises:
        TargetError, ClrError: as a capture.
    """
    with platforms.open_target(process) as target:
        runtime = _runtime(target)
        with (
            find_dac(runtime, dac, Path(target.root or "/"), user=target.user) as component,
            ClrClient.start(target, runtime, component, user=target.user) as client,
        ):
            client.collect(())  # everything is loaded before the stop
            for moment in range(MOMENTS):
                last = moment == MOMENTS - 1
                with _still(target, client) as (copy, stopped_s, warnings):
                    rows = _walk(client, copy, warnings, last=last, progress=progress)
                if rows is None:
                    time.sleep(_GC_PAUSE_S)
                    continue
                return HeapStatistics(
                    source=str(target.pid),
                    name=target.name,
                    pid=target.pid,
                    rows=tuple(rows),
                    stopped_s=stopped_s(),
                    warnings=tuple(warnings),
                )
    raise AssertionError("the last attempt takes what is there")


def _walk(
    client: ClrClient,
    copy: Target,
    warnings: list[str],
    *,
    last: bool,
    progress: Progress | None,
) -> list[HeapRow] | None:
    """The rows of a heap that holds still; None where another moment may serve better.

    A GC at work makes the heap unwalkable, and so does a thread that was stopped between taking
    the memory of an object and writing its type.
    """
    try:
        if client.collect(copy.threads()).facts.get("can_walk", True):
            return client.heapstat(progress=progress)
        if last:
            warnings.append(
                "the GC was in the middle of its work each time: objects may be missing"
            )
            return client.heapstat(progress=progress)
    except BridgeError as err:
        if err.exit_status is not None:
            raise
        if last:
            raise ClrError(
                f"the heap of process {copy.pid} was in motion at each of {MOMENTS} moments: {err}",
                hint="try again when its GC has less to do",
            ) from err
    return None


@contextmanager
def _still(
    target: LiveTarget, client: ClrClient
) -> Iterator[tuple[Target, Callable[[], float], list[str]]]:
    """The target as it is now: a snapshot while it runs on, else itself, stopped."""
    with ExitStack() as stack:
        warnings: list[str] = []
        began = time.perf_counter()
        try:
            copy = stack.enter_context(platforms.snapshot(target))
        except CaptureError as err:
            warnings.append(f"the process was stopped for the whole walk: {err}")
            began = time.perf_counter()
            stack.enter_context(target.stopped())
            client.attach(target.memory_source())
            yield target, lambda: time.perf_counter() - began, warnings
            return
        stopped_s = time.perf_counter() - began
        client.attach(copy.memory_source())
        yield copy, lambda: stopped_s, warnings


def of_dump(
    path: str | os.PathLike[str], *, dac: Sequence[Path] = (), progress: Progress | None = None
) -> HeapStatistics:
    """The heap in a dump file.

    Raises:
        DumpFormatError: it is no dump, or a damaged one.
        ClrError: its runtime cannot be read.
    """
    with open_dump(path) as dump:
        runtime = _runtime(dump)
        with (
            find_dac(runtime, dac) as component,
            ClrClient.start(dump, runtime, component) as client,
        ):
            _check_heap(dump, client)
            rows = client.heapstat(progress=progress)
        return HeapStatistics(os.fspath(path), dump.name, dump.pid, tuple(rows))


def _check_heap(dump: DumpFile, client: ClrClient) -> None:
    """Raise where the file does not hold the heap: a walk would stop at the first gap."""
    wanted = [r for r in client.collect(dump.threads()).ranges if r.reasons & Reason.GC_HEAP]
    held = clip(wanted, [MemoryRange(r.start, r.end) for r in dump.regions()])
    sizes = [sum(item.size for item in items) for items in (held, wanted)]
    if sizes[0] < sizes[1] or not sizes[0]:
        raise ClrError(
            f"the GC heap is not in {dump.path}: {sizes[0]:,} of {sizes[1]:,} bytes",
            hint="a minimal dump has none; take a heap dump (-mh)",
        )


def _runtime(target: Target) -> Runtime:
    runtime = find_runtime(target)
    if runtime is None:
        raise NoClrInTargetError(f"process {target.pid} ({target.name}) has no .NET runtime in it")
    return runtime


def by_type(
    rows: Sequence[HeapRow],
    *,
    generations: bool = False,
    wanted: Callable[[str], bool] | None = None,
) -> list[TypeRow]:
    """Rows of one type made one (of one generation with `generations`), the largest first."""
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        name = row.type or NAMELESS
        if wanted is None or wanted(name):
            key = (name, row.generation if generations else "")
            count, size = totals.get(key, (0, 0))
            totals[key] = (count + row.count, size + row.size)
    found = [TypeRow(*key, *total) for key, total in totals.items()]
    return sorted(found, key=lambda row: (-row.size, row.type, row.generation))


def changes(before: Sequence[TypeRow], after: Sequence[TypeRow]) -> list[TypeChange]:
    """Types whose objects differ in count or bytes, the largest growth first."""
    sides = [{(row.type, row.generation): row for row in rows} for rows in (before, after)]
    found = []
    for key in {**sides[0], **sides[1]}:
        one, other = (side.get(key, TypeRow(*key, 0, 0)) for side in sides)
        if one != other:
            found.append(TypeChange(*key, one.count, other.count, one.size, other.size))
    return sorted(found, key=lambda row: (row.size_before - row.size_after, row.type))
