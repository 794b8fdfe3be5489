"""Full dumps made into smaller ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..plan import DumpMode
from . import options, render, talk

if TYPE_CHECKING:
    from ..stripping import StripReport


@click.command(
    "strip",
    help="Make a full dump, whoever wrote it, into the heap dump that could have been taken "
    "instead, on any machine that has the DAC of its runtime. A FILE that ends in .zst is "
    "compressed.",
)
@click.option("-o", "output", required=True, metavar="FILE", help="Where to write.")
@click.option(
    "-m", "--mode", type=click.Choice(["m", "h"]), default="h", help="Minimal or heap [h]."
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@options.DAC
@options.JSON
@options.QUIET
@options.VERBOSE
@click.argument("full")
def command(
    output: str,
    mode: str,
    overwrite: bool,
    dac: Sequence[Path],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    full: str,
) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..stripping import strip

    with talk.progress(f"stripping {full}") as progress:
        report = strip(
            full, output, DumpMode.parse(mode), dac=dac, overwrite=overwrite, progress=progress
        )
    if as_json:
        talk.data(report.as_dict())
    else:
        talk.result("\n".join(text(report)))


def text(report: StripReport) -> Iterator[str]:
    """Where, what of, how large, what is in it, what went not as usual."""
    yield report.path
    runtime = report.clr.get("runtime")
    yield (
        f"  {report.mode.value} dump of process {report.pid} ({report.name})"
        + (f", .NET {runtime}" if runtime else "")
    )
    sizes = [render.size_text(n) for n in (report.size, report.disk_size, report.source_size)]
    yield f"  {sizes[0]}, {sizes[1]} on disk; the full dump takes {sizes[2]}"
    rows = [(render.REASONS[r], render.size_text(size)) for r, size in report.totals.items()]
    yield from (f"    {line}" for line in render.table(rows))
    yield from (f"  {render.warning_text(warning)}" for warning in report.warnings)
