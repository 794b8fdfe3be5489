"""The default command: take dumps of a process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from .._version import __version__
from ..errors import UsageError
from ..plan import DumpMode
from . import options, render, talk

_MODES = (
    ("-mm", "minimal: threads, registers, stacks, modules, and what a managed stack walk reads"),
    ("-mh", "heap: minimal, the GC heap and all that its readers need; no native heap, no code"),
    ("-ma", "full: every readable page"),
)
_CHOOSE = "choose -mm (minimal), -mh (heap) or -ma (full)"
_EXAMPLES = (
    ("minidumper -mh 1234", "heap dump into the current folder"),
    ("minidumper -mh MyApp -o /dumps/", "by name, into a folder"),
    ("minidumper -mm -mh 1234", "two files of the same instant"),
    ("minidumper -mh --async 1234", "a pause for a snapshot alone"),
    ("minidumper -mm -n 3 -s 5 1234", "three dumps, five seconds apart"),
)
_COMMANDS = (
    ("minidumper verify FILE", "prove that a dump can be read"),
    ("minidumper regions PID|NAME|FILE", "what a dump would hold, region by region"),
    ("minidumper heapstat PID|NAME|FILE", "types of the heap by count and bytes"),
    ("minidumper info FILE", "what a dump file is, whoever wrote it"),
    ("minidumper ps", "the .NET processes that can be seen"),
    ("minidumper doctor [PID|NAME]", "what would keep a process from being dumped"),
    ("minidumper demo", "dump a small .NET program, verify the dump"),
)
_EXIT_CODES = (
    "0 done, 1 capture failed, 2 usage, 3 no such target, 4 access denied, "
    "5 verify found problems, 130 interrupted"
)


def _parse_modes(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> Sequence[DumpMode]:
    modes = []
    for value in values:
        try:
            modes.append(DumpMode.parse(value))
        except ValueError:
            raise UsageError(
                f"there is no mode {value}: -m takes m, h or a, and not procdump's memory limit",
                hint=_CHOOSE,
            ) from None
    return tuple(dict.fromkeys(modes))


class _DumpCommand(click.Command):
    """A command whose help explains the modes and tells habits of procdump from mistakes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(UsageError.exit_code)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as err:
            if err.option_name == "-c":
                raise UsageError(
                    "there is no -c: procdump's CPU limit is not one of minidumper's triggers",
                    hint="leave it out to take the dump at once",
                ) from None
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in (
            ("Modes (several of them write several files of the same instant)", _MODES),
            ("Examples", _EXAMPLES),
            ("Other commands (the first word decides; each has --help)", _COMMANDS),
        ):
            with formatter.section(title):
                formatter.write_dl(rows, col_max=34)
        formatter.write_paragraph()
        formatter.write_text(f"Exit codes: {_EXIT_CODES}.")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    process: int | str
    place: str | None
    modes: Sequence[DumpMode]
    dac: Sequence[Path]
    count: int
    interval_s: float
    async_copy: bool
    overwrite: bool
    writer: str
    dbghelp: str
    as_json: bool


@click.command(
    "minidumper",
    cls=_DumpCommand,
    options_metavar="-mm|-mh|-ma [OPTIONS]",
    help="Take a dump of a running .NET process, which runs on afterwards.\n\n"
    "PID|NAME is a process id, or the name of a process or of the .dll that dotnet runs; .exe "
    "and .dll may be left out, * and ? are allowed. FILE|FOLDER is the same as -o.",
)
@click.option(
    "-m",
    "--mode",
    "modes",
    callback=_parse_modes,
    multiple=True,
    metavar="m|h|a",
    help="What the dump holds: m or minimal, h or heap, a or full. Required.",
)
@click.option(
    "--async",
    "async_copy",
    is_flag=True,
    help="A shorter pause: the process stands still for a snapshot alone (or for a copy into "
    "memory, where none can be had), and runs on while the file is written.",
)
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of dumps.",
)
@click.option(
    "-s",
    "interval_s",
    type=click.FloatRange(min=0),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="Time between two dumps.",
)
@click.option(
    "-o",
    "output",
    metavar="FILE|FOLDER",
    help="Where to write [PROCESSNAME_YYMMDD_HHMMSS.dmp]. These tokens and PID are replaced in "
    "any file name.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@options.DAC
@options.WRITER
@options.DBGHELP
@options.JSON
@options.QUIET
@options.VERBOSE
@click.version_option(__version__, prog_name="minidumper", message="%(prog)s %(version)s")
@click.argument("words", nargs=-1, metavar="PID|NAME [FILE|FOLDER]")
def command(
    modes: Sequence[DumpMode],
    async_copy: bool,
    count: int,
    interval_s: float,
    output: str | None,
    overwrite: bool,
    dac: Sequence[Path],
    writer: str | None,
    dbghelp: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    words: Sequence[str],
) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    process, place = _process_and_place(words, output)
    if not modes:
        raise UsageError("no mode was given", hint=_CHOOSE)
    _take(
        Request(
            process=int(process) if _is_pid(process) else process,
            place=place,
            modes=modes,
            dac=dac,
            count=count,
            interval_s=interval_s,
            async_copy=async_copy,
            overwrite=overwrite,
            writer=writer or "",
            dbghelp=dbghelp or "",
            as_json=as_json,
        )
    )


def _process_and_place(words: Sequence[str], output: str | None) -> tuple[str, str | None]:
    """The process, and the file or folder; habits that clash are named, never guessed at."""
    if output == "-":
        raise UsageError("a dump cannot go to standard output", hint="give -o a file or a folder")
    swallowed = output is not None and _is_pid(output)
    if swallowed and (not words or words[0].lower().endswith(".dmp")):
        raise UsageError(
            f"-o took {output} for the name of the file; here -o is no switch as in procdump",
            hint=f"to overwrite: minidumper … --overwrite {' '.join([str(output), *words])}",
        )
    if not words:
        raise UsageError("no process was given", hint="give its pid or its name")
    if len(words) > 2:
        raise UsageError(
            f"surplus words: {' '.join(words[2:])}",
            hint="a process and a file or folder are all that is expected",
        )
    if len(words) == 2 and output is not None:
        raise UsageError(
            f"two places for the dump: -o {output} and {words[1]}", hint="leave one of them out"
        )
    return words[0], words[1] if len(words) == 2 else output


def _is_pid(word: str) -> bool:
    return word.isascii() and word.isdecimal()


def _take(request: Request) -> None:
    """Take the dumps; what was taken before a failure is reported all the same."""
    from ..capture import Capture
    from ..naming import output_paths
    from ..platforms import configure, open_target
    from ..platforms.options import DumpOptions
    from ..report import CaptureReport

    reports: list[CaptureReport] = []
    try:
        with open_target(request.process) as target:
            configure(target, DumpOptions(writer=request.writer, dbghelp=request.dbghelp))

            def paths() -> list[str]:
                return output_paths(
                    request.place,
                    request.modes,
                    name=target.name,
                    pid=target.pid,
                    when=datetime.now(),
                    repeated=request.count > 1,
                    overwrite=request.overwrite,
                )

            paths()  # a name that cannot serve is told at once
            with talk.waiting(f"reading {target.name}"):
                capture = Capture(target, request.modes, dac=request.dac)
            with capture:
                for number in range(request.count):
                    if number:
                        talk.say(f"next dump in {request.interval_s:g} s; Ctrl+C ends")
                        time.sleep(request.interval_s)
                    with talk.progress(f"dumping {target.name}") as progress:
                        taken = capture.write(
                            paths(),
                            async_copy=request.async_copy,
                            overwrite=request.overwrite,
                            progress=progress,
                        )
                    reports += taken
                    if not request.as_json:
                        talk.result("\n".join(map(render.dump_text, taken)))
    except KeyboardInterrupt:
        talk.say(f"process {request.process} runs on")
        raise
    finally:
        if request.as_json and reports:
            single = request.count == 1 and len(request.modes) == 1
            rows = [report.as_dict() for report in reports]
            talk.data(rows[0] if single else rows)
