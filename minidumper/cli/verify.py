"""`minidumper verify`: reopen a dump and prove that it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..errors import VerifyError
from . import options, render, talk


@click.command(
    "verify",
    help="Reopen a dump and prove it: the CLR is found, the heap can be walked, the type of every "
    "object has its name, every managed thread unwinds, every module has its metadata; and what "
    "SOS's main commands read is read from the file alone: what it lacks is listed, with who asked."
    "\n\n"
    "Ends with exit code 5 where that does not hold.",
)
@options.DAC
@options.JSON
@options.QUIET
@options.VERBOSE
@click.argument("file")
def command(dac: Sequence[Path], as_json: bool, quiet: bool, verbose: bool, file: str) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..verification import verify

    with talk.waiting(f"reading {file}"):
        report = verify(file, dac=dac)
    if as_json:
        talk.data(report.as_dict())
    else:
        talk.result(render.verify_text(report))
    if report.problems:
        raise VerifyError(f"{file} cannot be read in full", problems=report.problems)
