"""`minidumper demo`: dump a small .NET program in all modes, and prove the heap dump."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import click

from ..errors import VerifyError
from . import options, render, talk


@click.command(
    "demo",
    help="Start a small .NET program on the embedded runtime, dump it in all modes from one stop, "
    "show their sizes, and read the heap dump back to prove it.\n\n"
    "The dumps are removed afterwards, unless -o names a folder for them.",
)
@click.option(
    "-o",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep the dumps there.",
)
@options.JSON
@options.QUIET
@options.VERBOSE
def command(folder: Path | None, as_json: bool, quiet: bool, verbose: bool) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..demo import demonstrate

    with contextlib.ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(talk.waiting("dumping the demo program"))
        report = demonstrate(where)
    if as_json:
        talk.data(report.as_dict())
    else:
        talk.result(render.demo_text(report, kept=folder is not None))
    if report.verified.problems:
        raise VerifyError("the heap dump cannot be read in full", problems=report.verified.problems)
