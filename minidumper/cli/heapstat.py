"""The types of a heap by count and bytes."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options, render, talk

if TYPE_CHECKING:
    from ..heapstat import HeapStatistics, TypeChange, TypeRow


@click.command(
    "heapstat",
    help="Show the types of the heap by count and bytes, the largest first. A live process runs on "
    "meanwhile: it is read from a snapshot.",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N types.")
@click.option(
    "--filter",
    "pattern",
    metavar="TEXT",
    help="Only types whose name has this in it; * and ? are allowed, case does not matter.",
)
@click.option("--by-generation", is_flag=True, help="A line for each generation of a type.")
@click.option("--diff", "other", metavar="OTHER", help="What another dump or process has more.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@options.DAC
@options.JSON
@options.QUIET
@options.VERBOSE
@click.argument("source", metavar="PID|NAME|FILE")
def command(
    top: int | None,
    pattern: str | None,
    by_generation: bool,
    other: str | None,
    as_csv: bool,
    dac: Sequence[Path],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    source: str,
) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..heapstat import TypeChange, TypeRow, by_type, changes

    wanted = _matcher(pattern)
    heaps = [_read(name, dac) for name in (source, other) if name is not None]
    tables = [by_type(h.rows, generations=by_generation, wanted=wanted) for h in heaps]
    rows: Sequence[Any] = changes(*tables) if other is not None else tables[0]
    rows = rows[:top]
    if as_json:
        talk.data([_plain(row) for row in rows])
    elif as_csv:
        columns = fields(TypeRow if other is None else TypeChange)
        talk.rows([[column.name for column in columns], *(astuple(row) for row in rows)])
    elif other is not None:
        talk.listing(list(difference(heaps[0], heaps[1], rows)))
    else:
        talk.listing(list(text(heaps[0], rows)))


def _read(source: str, dac: Sequence[Path]) -> HeapStatistics:
    """A number is a pid; a path that exists is a dump; anything else is a process's name."""
    from ..heapstat import of_dump, of_process

    with talk.progress(f"reading {source}") as bar:
        told: Callable[[str, int, int], None] | None = None
        if bar is not None:
            move = bar
            told = lambda _, done, total: move(done, total)  # noqa: E731
        if source.isascii() and source.isdecimal():
            heap = of_process(int(source), dac=dac, progress=told)
        elif os.sep in source or os.path.exists(source):
            heap = of_dump(source, dac=dac, progress=told)
        else:
            heap = of_process(source, dac=dac, progress=told)
    for warning in heap.warnings:
        talk.say(f"warning: {warning}")
    if heap.stopped_s:
        talk.say(f"process {heap.pid} stood still for {render.time_text(heap.stopped_s)}")
    return heap


def _matcher(pattern: str | None) -> Callable[[str], bool] | None:
    if pattern is None:
        return None
    lowered = f"*{pattern.lower()}*"
    return lambda name: fnmatch.fnmatchcase(name.lower(), lowered)


def text(heap: HeapStatistics, rows: Sequence[TypeRow]) -> Iterator[str]:
    """A line a type, and the total of the whole heap."""
    with_generation = any(row.generation for row in rows)
    heading = ["COUNT", "BYTES", *(["GEN"] if with_generation else []), "TYPE"]
    lines = [
        [
            f"{row.count:,}",
            f"{row.size:,}",
            *([row.generation] if with_generation else []),
            row.type,
        ]
        for row in rows
    ]
    yield from render.table([heading, *lines], left=range(2, len(heading)))
    yield f"{heap.count:,} objects, {heap.size:,} bytes in the heap of {heap.name} ({heap.source})"


def difference(
    one: HeapStatistics, other: HeapStatistics, rows: Sequence[TypeChange]
) -> Iterator[str]:
    """A line a type that differs, the largest growth first."""
    heading = ("COUNT", "BYTES", "GEN", "TYPE")
    lines = [
        (
            f"{row.count_after - row.count_before:+,}",
            f"{row.size_after - row.size_before:+,}",
            row.generation or "all",
            row.type,
        )
        for row in rows
    ]
    yield from render.table([heading, *lines], left=(2, 3))
    yield (
        f"{other.count - one.count:+,} objects, {other.size - one.size:+,} bytes "
        f"from {one.source} to {other.source}"
    )


def _plain(row: TypeRow | TypeChange) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if value != ""}
