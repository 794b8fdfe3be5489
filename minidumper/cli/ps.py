"""The .NET processes that can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import options, render, talk

if TYPE_CHECKING:
    from ..processes import ProcessRow

_COLUMNS = ("PID", "USER", ".NET", "GC", "HEAP", "RSS", "CONTAINER", "NAME", "COMMAND")
_TO_THE_RIGHT = ("PID", "HEAP", "RSS")


@click.command(
    "ps",
    help="List the .NET processes that can be seen. HEAP is what the GC has committed, about; "
    "what cannot be seen from here is a dash, with the reason under the process.",
)
@options.JSON
@options.QUIET
@options.VERBOSE
def command(as_json: bool, quiet: bool, verbose: bool) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..processes import dotnet_processes

    rows = dotnet_processes()
    if as_json:
        talk.data([row.as_dict() for row in rows])
    elif rows:
        talk.listing(text(rows))
    else:
        talk.say("no .NET process can be seen")


def text(rows: Sequence[ProcessRow]) -> list[str]:
    """A table with a line a process, and one more for what is missing; no wider than it must be."""
    cells = [_COLUMNS, *(_cells(row) for row in rows)]
    shown = [i for i in range(len(_COLUMNS)) if any(row[i] not in ("", "-") for row in cells[1:])]
    left = [at for at, i in enumerate(shown) if _COLUMNS[i] not in _TO_THE_RIGHT]
    head, *lines = render.table([[row[i] for i in shown] for row in cells], left)
    out = [head]
    for row, line in zip(rows, lines, strict=True):
        out.append(line)
        if row.missing:
            out.append(f"  {row.missing}")
    return out


def _cells(row: ProcessRow) -> Sequence[str]:
    pid = f"{row.pid}" if row.namespace_pid == row.pid else f"{row.pid} ({row.namespace_pid})"
    heap = render.size_text(row.heap) if row.heap is not None else "-"
    rss = render.size_text(row.rss)
    return (
        *(pid, row.user, row.version or "-", row.gc or "-", heap, rss, row.container or "-"),
        *(row.name, row.command),
    )
