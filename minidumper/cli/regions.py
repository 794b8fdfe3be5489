"""What a dump would hold, region by region."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import platforms
from ..errors import UsageError
from ..plan import DumpMode
from ..ranges import Reason
from . import options, render, talk

if TYPE_CHECKING:
    from ..regionmap import Change, RegionMap, RegionRow

_NONE = "none"
"""What --reason calls regions that a dump of this mode leaves out."""
_COLUMNS = ("START", "END", "SIZE", "RESIDENT", "IN DUMP", "PROT", "REASONS", "FILE")
_NARROW = ("START", "SIZE", "IN DUMP", "PROT", "REASONS", "FILE")
_TO_THE_LEFT = ("PROT", "REASONS", "FILE")
_WIDE = 120
"""Columns of a terminal that all of it fits into, but for long paths."""
_SORTS: dict[str, Callable[[RegionRow], tuple[object, ...]]] = {
    "address": lambda row: (row.start,),
    "size": lambda row: (-row.size, row.start),
    "resident": lambda row: (-row.resident, row.start),
    "reason": lambda row: (not row.reasons, row.reasons & -row.reasons, row.start),
    "path": lambda row: (not row.path, row.path, row.start),
}


def _mode(ctx: click.Context, param: click.Parameter, value: str) -> DumpMode:
    try:
        return DumpMode.parse(value)
    except ValueError:
        raise UsageError(
            f"there is no mode {value}", hint="choose -mm (minimal), -mh (heap) or -ma (full)"
        ) from None


def _reasons(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> tuple[Reason | None, ...]:
    found: list[Reason | None] = []
    for value in values:
        name = value.upper().replace("-", "_")
        if value.lower() == _NONE:
            found.append(None)
        elif name in Reason.__members__:
            found.append(Reason[name])
        else:
            names = ", ".join(Reason.__members__)
            raise UsageError(f"there is no reason {value}", hint=f"choose {names} or {_NONE}")
    return tuple(found)


@click.command(
    "regions",
    help="Show what a dump would hold of each region and why, and what it would cost. A live "
    "process is stopped for some milliseconds; of a dump file it shows what is in it. The table "
    "has a line a region; JSON, CSV and the page tell the parts of each that have other reasons.",
)
@click.option(
    "-m",
    "--mode",
    callback=_mode,
    default="h",
    metavar="m|h|a",
    help="The mode: m or minimal, h or heap, a or full.  [default: h]",
)
@click.option(
    "--sort",
    type=click.Choice(list(_SORTS)),
    default="address",
    show_default=True,
    help="The order of the regions.",
)
@click.option(
    "--reason",
    "reasons",
    callback=_reasons,
    multiple=True,
    metavar="NAME",
    help=f"Only regions with this reason ({_NONE}: those that are left out). Repeatable.",
)
@click.option("--csv", "as_csv", is_flag=True, help="The regions as CSV.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write one page with a picture of the address space, for any browser, without network.",
)
@click.option("--diff", "other", metavar="OTHER", help="Compare with another process or dump.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@options.DAC
@options.JSON
@options.QUIET
@options.VERBOSE
@click.argument("source", metavar="PID|NAME|FILE")
def command(
    mode: DumpMode,
    sort: str,
    reasons: Sequence[Reason | None],
    as_csv: bool,
    html: str | None,
    other: str | None,
    overwrite: bool,
    dac: Sequence[Path],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    source: str,
) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..planning import REHEARSAL_BUDGET_S
    from ..regionmap import REHEARSAL_S

    if sum((as_csv, as_json, html is not None)) > 1:
        raise UsageError("--csv, --json and --html contradict each other")
    if html is not None and other is not None:
        raise UsageError("--html shows one process or dump, not a difference")
    if other is not None:
        maps = [_map(name, mode, dac, rehearsal_s=REHEARSAL_BUDGET_S) for name in (source, other)]
        _show_difference(*maps, as_json=as_json, as_csv=as_csv)
        return
    found = _map(source, mode, dac, rehearsal_s=REHEARSAL_S)
    rows = sorted((row for row in found.rows if _wanted(row, reasons)), key=_SORTS[sort])
    regions = [item for item in whole(found.rows) if _wanted(item[0], reasons)]
    if html is not None:
        _write_page(found, html, overwrite=overwrite)
    elif as_json:
        from ..regionmap import row_dict

        talk.data(found.as_dict() | {"regions": [*map(row_dict, rows)]})
    elif as_csv:
        talk.rows(_csv(rows))
    else:
        regions.sort(key=lambda item: _SORTS[sort](item[0]))
        talk.listing([*summary(found), "", *table(regions, talk.width())])


def _map(source: str, mode: DumpMode, dac: Sequence[Path], *, rehearsal_s: float) -> RegionMap:
    """A number is a pid; a path that exists is a dump; anything else is a process's name."""
    from ..regionmap import map_dump, map_process

    if source.isascii() and source.isdecimal():
        return map_process(int(source), mode, dac=dac, rehearsal_s=rehearsal_s)
    if os.sep in source or os.path.exists(source):
        return map_dump(source, mode, dac=dac)
    return map_process(source, mode, dac=dac, rehearsal_s=rehearsal_s)


def _wanted(row: RegionRow, reasons: Sequence[Reason | None]) -> bool:
    return not reasons or any(
        (row.reasons & reason) if reason else not row.reasons for reason in reasons
    )


def summary(found: RegionMap) -> Iterator[str]:
    """Whose regions, the totals by reason, and what a dump would cost."""
    runtime = found.facts.get("runtime")
    yield f"{found.name} ({found.source})" + (f", .NET {runtime}" if runtime else "")
    totals = [
        (render.REASONS[reason], render.size_text(size), render.size_text(resident))
        for reason, (size, resident) in found.by_reason().items()
    ]
    size, resident = found.left_out()
    totals.append(("left out", render.size_text(size), render.size_text(resident)))
    heading = (f"A {found.mode.value} dump holds", "SIZE", "RESIDENT")
    yield from render.table([heading, *totals])
    yield from _cost(found)
    for warning in found.warnings:
        yield f"warning: {warning}"


def _cost(found: RegionMap) -> Iterator[str]:
    estimate = found.estimate
    if estimate is None:
        return
    yield (
        f"file: about {render.size_text(estimate.disk_size)} on disk "
        f"({render.size_text(estimate.size)} with zero pages), "
        f"{render.size_text(estimate.free_disk)} free here"
    )
    pauses = [
        f"{render.time_text(seconds)}{how}"
        for seconds, how in ((estimate.pause_s, ""), (estimate.async_pause_s, " with --async"))
        if seconds is not None
    ]
    if pauses:
        yield f"pause: about {', '.join(pauses)}"
    yield (
        f"memory for --async: {render.size_text(estimate.free_memory)} left "
        f"({estimate.memory_limit})"
    )
    yield f"the process stood still for {render.time_text(found.stopped_s)}"


def whole(rows: Sequence[RegionRow]) -> list[tuple[RegionRow, int]]:
    """Rows of one region made one, with all its reasons, and the bytes of it that a dump holds."""
    out: list[tuple[RegionRow, int]] = []
    for row in rows:
        kept = row.size if row.reasons else 0
        before = out[-1][0] if out else None
        if before and before[1] == row.start and before[3:5] == row[3:5]:
            joined = before._replace(
                end=row.end,
                resident=before.resident + row.resident,
                reasons=before.reasons | row.reasons,
            )
            out[-1] = (joined, out[-1][1] + kept)
        else:
            out.append((row, kept))
    return out


def table(rows: Sequence[tuple[RegionRow, int]], width: int | None = None) -> list[str]:
    """A line a region; what is `width` columns or less must do without some of it."""
    wide = width is None or width >= _WIDE
    columns = _COLUMNS if wide else _NARROW
    cells = [_cells(row, kept) for row, kept in rows]
    if not wide:
        cells = [cell | _shortened(cell) for cell in cells]
    lines = [columns, *([cell[name] for name in columns] for cell in cells)]
    return render.table(lines, left=[columns.index(name) for name in _TO_THE_LEFT])


def _cells(row: RegionRow, kept: int) -> dict[str, str]:
    return {
        "START": f"{row.start:x}",
        "END": f"{row.end:x}",
        "SIZE": render.size_text(row.size),
        "RESIDENT": render.size_text(row.resident),
        "IN DUMP": render.size_text(kept),
        "PROT": row.protection,
        "REASONS": _names(row.reasons),
        "FILE": row.path,
    }


def _shortened(cell: dict[str, str]) -> dict[str, str]:
    """The first reason and how many more there are; the file's name without its folder."""
    first, *more = cell["REASONS"].split("+")
    return {
        "REASONS": f"{first}+{len(more)}" if more else first,
        "FILE": cell["FILE"].replace("\\", "/").rpartition("/")[2],
    }


def _names(reasons: Reason | None) -> str:
    from ..regionmap import reason_names

    return "+".join(reason_names(reasons)) if reasons else "-"


def _csv(rows: Sequence[RegionRow]) -> Iterator[Sequence[object]]:
    yield "start", "end", "size", "resident", "protection", "reasons", "path"
    for row in rows:
        span = (f"0x{row.start:x}", f"0x{row.end:x}", row.size, row.resident)
        yield (*span, row.protection, _names(row.reasons), row.path)


def _show_difference(one: RegionMap, other: RegionMap, *, as_json: bool, as_csv: bool) -> None:
    from ..regionmap import differences

    changes = differences(one, other)
    if as_json:
        talk.data([_change_dict(change) for change in changes])
    elif as_csv:
        rows = (_change_dict(change).values() for change in changes)
        talk.rows([("start", "end", "size", "before", "after"), *rows])
    else:
        talk.listing([*_totals(one, other), "", *_changes(changes)])


def _change_dict(change: Change) -> dict[str, object]:
    return {
        "start": f"0x{change.start:x}",
        "end": f"0x{change.end:x}",
        "size": change.end - change.start,
        "before": _side(change.before),
        "after": _side(change.after),
    }


def _side(reasons: Reason | None) -> str:
    return "not mapped" if reasons is None else _names(reasons)


def _totals(one: RegionMap, other: RegionMap) -> list[str]:
    before, after = one.by_reason(), other.by_reason()
    rows = [("", one.source, other.source, "DIFFERENCE")]
    for reason in Reason:
        sizes = [totals.get(reason, (0, 0))[0] for totals in (before, after)]
        if any(sizes):
            change = sizes[1] - sizes[0]
            sign = "+" if change > 0 else "-" if change < 0 else ""
            texts = [render.size_text(size) for size in (*sizes, abs(change))]
            rows.append((render.REASONS[reason], texts[0], texts[1], sign + texts[2]))
    return render.table(rows)


def _changes(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return ["no region differs"]
    rows = [
        (
            *(f"{change.start:x}", f"{change.end:x}"),
            *(render.size_text(change.end - change.start), _side(change.before)),
            _side(change.after),
        )
        for change in changes
    ]
    return render.table([("START", "END", "SIZE", "BEFORE", "AFTER"), *rows], left=(3, 4))


def _write_page(found: RegionMap, path: str, *, overwrite: bool) -> None:
    from .regionpage import page

    backend = platforms.backend()
    with backend.output(path, overwrite=overwrite) as output:
        try:
            with os.fdopen(os.dup(output.descriptor), "wb") as file:
                file.write(page(found).encode())
        except OSError as err:
            raise backend.output_error(err, path) from err
        output.commit()
    talk.result(output.path)
