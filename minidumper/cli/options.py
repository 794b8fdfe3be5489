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
QUIET = click.option("-q", "--quiet", is_flag=True, help="Tell nothing but errors.")
VERBOSE = click.option(
    "-v", "--verbose", is_flag=True, help="Tell every step, and where an error is from."
)
