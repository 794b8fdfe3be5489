"""Options that every command has."""

from __future__ import annotations

from pathlib import Path

import click

from ..images.sequential import LEVEL, LEVELS

DAC = click.option(
    "--dac",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="FILE|FOLDER",
    help="Where to look for the runtime's DAC (libmscordaccore.so). Repeatable.",
)
COMPRESS = click.option(
    "--compress",
    "level",
    type=click.IntRange(LEVELS[0], LEVELS[-1]),
    metavar="[LEVEL]",
    help=f"Compress with zstd, 1 (fast) to 19 [{LEVEL}]; so does a FILE that ends in .zst. Never "
    "into a file while the process stands still: with --async at once, else from a plain file.",
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
EXCEPTIONS = click.option(
    "-e",
    "chance",
    type=click.Choice(["1", "2"]),
    metavar="[1|2]",
    help="Wait for exceptions: 1 when they are thrown, 2 (or nothing) unhandled ones and crashes.",
)
TEXTS = click.option(
    "-f",
    "texts",
    multiple=True,
    metavar="TEXT",
    help='Only exceptions with TEXT in CODE.Type ("message"); * and ? are allowed. Repeatable.',
)
EXCLUDED = click.option(
    "-fx", "excluded", multiple=True, metavar="TEXT", help="No exceptions with TEXT. Repeatable."
)
TYPES = click.option(
    "--type",
    "types",
    multiple=True,
    metavar="NAME",
    help="Only exceptions of this type or one derived from it, with its namespace; * and ? are "
    "allowed. Repeatable.",
)
ON_EXIT = click.option("-t", "on_exit", is_flag=True, help="Wait for the end of the process.")
MAX_MEMORY = click.option(
    "--maxmem",
    "max_mb",
    type=click.FloatRange(min=0),
    metavar="MB",
    help="Wait until it takes more memory (resident and swapped).",
)
MIN_MEMORY = click.option(
    "--minmem",
    "min_mb",
    type=click.FloatRange(min=0),
    metavar="MB",
    help="Wait until it takes less memory.",
)
SHOW = click.option(
    "-l",
    "show",
    is_flag=True,
    help="Show exceptions, threads, modules and debug output as they come while it waits, and "
    "minidumper's own steps; with it -f without -e waits for a line of debug output.",
)
NO_FALLBACK = click.option(
    "--no-fallback",
    is_flag=True,
    help="Fail rather than take all private memory, where the CLR side fails at such a moment.",
)
WAIT = click.option(
    "-w", "wait_for_name", is_flag=True, help="Wait for a process of that name to begin."
)
NEW_CONSOLE = click.option(
    "-c",
    "new_console",
    is_flag=True,
    help="Launch it in a console of its own; on Linux in a session and on a pseudo terminal of its "
    "own, which is shown here.",
)
# Taken out before click reads the words: all that follows it is the program's own.
LAUNCH = click.option(
    "-x",
    "launch",
    expose_value=False,
    metavar="[FOLDER] IMAGE [ARGS...]",
    help="Launch this program, and wait in it; must come last. Its exit code is passed on, and "
    "standard output is its own.",
)
