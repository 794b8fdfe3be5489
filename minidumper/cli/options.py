"""Options that every command has."""

from __future__ import annotations

from pathlib import Path

import click

DAC = click.option(
    "--dac",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="FILE|FOLDER",
    help="Where to look for the runtime's DAC (libmscordaccore.so). Repeatable.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
WRITER = click.option(
    "--writer",
    type=click.Choice(["dbghelp", "native"]),
    help="Windows: who writes the file, Microsoft's dbghelp.dll [default] or minidumper itself.",
)
DBGHELP = click.option(
    "--dbghelp",
    metavar="PATH",
    help="Windows: the full path of the dbghelp.dll to use [the system's].",
)
QUIET = click.option("-q", "--quiet", is_flag=True, help="Tell nothing but errors.")
VERBOSE = click.option(
    "-v", "--verbose", is_flag=True, help="Tell every step, and where an error is from."
)
