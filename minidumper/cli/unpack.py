"""Compressed dumps made plain again."""

from __future__ import annotations

import click

from . import options, talk


@click.command(
    "unpack",
    help="Unpack a compressed dump (.zst), for readers that want the plain file; zero pages become "
    "holes. minidumper's own commands read compressed dumps as they are.",
)
@click.option("-o", "output", metavar="FILE", help="Where to [beside it, without .zst].")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@options.QUIET
@options.VERBOSE
@click.argument("file")
def command(output: str | None, overwrite: bool, quiet: bool, verbose: bool, file: str) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..unpacking import unpack

    with talk.progress(f"unpacking {file}") as progress:
        path = unpack(file, output, overwrite=overwrite, progress=progress)
    talk.result(path)
