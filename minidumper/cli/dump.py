"""The default command: take dumps of a process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from .._version import __version__
from ..errors import UsageError
from ..naming import STANDARD_OUTPUT, output_paths
from ..plan import DumpMode
from . import habits, options, render, talk
from .waiting import Request, Triggers, wait

_MODES = (
    ("-mm", "minimal: threads, registers, stacks, modules, and what a managed stack walk reads"),
    ("-mh", "heap: minimal, the GC heap and all that its readers need; no native heap, no code"),
    ("-ma", "full: every readable page"),
)
_INTERVAL_S = 10.0  # procdump's
_TRIGGERS = "-e, -t, --maxmem or --minmem"
_CHOOSE = "choose -mm (minimal), -mh (heap) or -ma (full)"
_EXAMPLES = (
    ("minidumper -mh 1234", "heap dump into the current folder"),
    ("minidumper -mh MyApp -o /dumps/", "by name, into a folder"),
    ("minidumper -mm -mh 1234", "two files of the same instant"),
    ("minidumper -mh --async 1234", "a pause for a snapshot alone"),
    ("minidumper -mh --async -o x.dmp.zst 1234", "compressed"),
    ("minidumper -mm -n 3 -s 5 1234", "three dumps, five seconds apart"),
    ("minidumper -mh -e MyApp", "wait for an unhandled exception or a crash"),
    ('minidumper -mh -e 1 -f "*timeout*" MyApp', "wait until such an exception is thrown"),
    ("minidumper -mh --maxmem 2000 1234", "wait until it takes 2,000 MB of memory"),
    ("minidumper -mh -t -x MyApp.dll", "launch a program, and wait for its end"),
)
_COMMANDS = (
    ("minidumper verify FILE", "prove that a dump can be read"),
    ("minidumper regions PID|NAME|FILE", "what a dump would hold, region by region"),
    ("minidumper heapstat PID|NAME|FILE", "types of the heap by count and bytes"),
    ("minidumper strip FULL -o SMALL", "make a full dump a heap dump"),
    ("minidumper unpack FILE.zst", "make a compressed dump plain again"),
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
        own, ctx.meta[habits.LAUNCH] = habits.split_launch(args)
        habits.refuse_cpu_limit(own)
        return super().parse_args(ctx, habits.with_level(habits.with_chance(own)))

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
    metavar="SECONDS",
    help="Least time between two dumps, but for that of the end of the process, and how long a "
    "limit must hold [10; exceptions 0].",
)
@options.EXCEPTIONS
@options.TEXTS
@options.EXCLUDED
@options.TYPES
@options.ON_EXIT
@options.MAX_MEMORY
@options.MIN_MEMORY
@options.SHOW
@options.NO_FALLBACK
@options.WAIT
@options.NEW_CONSOLE
@options.LAUNCH
@click.option(
    "-o",
    "output",
    metavar="FILE|FOLDER",
    help="Where to write [PROCESSNAME_YYMMDD_HHMMSS.dmp]. These tokens, PID and "
    "EXCEPTIONCODE are replaced in any file name.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@options.COMPRESS
@options.DAC
@options.WRITER
@options.DBGHELP
@options.JSON
@options.QUIET
@options.VERBOSE
@click.version_option(__version__, prog_name="minidumper", message="%(prog)s %(version)s")
@click.argument("words", nargs=-1, metavar="PID|NAME [FILE|FOLDER]")
@click.pass_context
def command(
    ctx: click.Context,
    modes: Sequence[DumpMode],
    async_copy: bool,
    count: int,
    interval_s: float | None,
    output: str | None,
    overwrite: bool,
    level: int | None,
    dac: Sequence[Path],
    writer: str | None,
    dbghelp: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    chance: str | None,
    texts: Sequence[str],
    excluded: Sequence[str],
    types: Sequence[str],
    on_exit: bool,
    max_mb: float | None,
    min_mb: float | None,
    show: bool,
    no_fallback: bool,
    wait_for_name: bool,
    new_console: bool,
    words: Sequence[str],
) -> None:
    # Standard output may be a dump's, or that of a program that we launch.
    own_output = output != STANDARD_OUTPUT and (as_json or not ctx.meta[habits.LAUNCH])
    talk.begin(quiet=quiet, verbose=verbose, times=show, results=own_output)
    process, place, launch = _subject(ctx.meta[habits.LAUNCH], words, output, chance or "", level)
    if not modes:
        last = "-x must come last: all after it is the program's" if launch else ""
        raise UsageError("no mode was given", hint=last or _CHOOSE)
    triggers = Triggers(
        chance=int(chance or 0),
        texts=texts,
        excluded=excluded,
        types=types,
        output=show and bool(texts) and not (chance or types),
        on_exit=on_exit,
        above_mb=max_mb,
        below_mb=min_mb,
    )
    if (texts or excluded or types) and not (chance or triggers.output):
        raise UsageError(
            "-f, -fx and --type choose among exceptions",
            hint="with -e or -e 1; for debug output: -l -f TEXT",
        )
    if launch and not triggers:
        raise UsageError("-x without anything to wait for", hint=f"choose {_TRIGGERS}")
    if new_console and not launch:
        raise UsageError(
            "-c is for a program that is launched", hint="minidumper -mh -e -c -x IMAGE"
        )
    if wait_for_name and (launch or habits.is_pid(process)):
        raise UsageError("-w waits for a process by its name", hint="minidumper -mh -w NAME")
    request = Request(
        process=int(process) if habits.is_pid(process) else process,
        launch=launch,
        new_console=new_console,
        wait_for_name=wait_for_name,
        triggers=triggers,
        fallback=not no_fallback,
        show=show,
        place=place,
        modes=modes,
        dac=dac,
        count=count,
        interval_s=interval_s,
        async_copy=async_copy,
        overwrite=overwrite,
        level=level,
        writer=writer or "",
        dbghelp=dbghelp or "",
        as_json=as_json,
    )
    ctx.exit(_take(request))


def _subject(
    launch: Sequence[str],
    words: Sequence[str],
    output: str | None,
    chance: str,
    level: int | None,
) -> tuple[str, str | None, Sequence[str]]:
    """The process, the place for its dumps, and the command where it is launched."""
    if not launch:
        return (*habits.process_and_place(words, output, chance, level), ())
    if words:
        raise UsageError(
            f"surplus words: {' '.join(words)}", hint="with -x there is no other process"
        )
    if output == STANDARD_OUTPUT:
        raise UsageError(
            "-o - and -x: standard output is that of the program",
            hint="write to a file, -o FILE; or launch it yourself, and give its pid",
        )
    folder, command = habits.folder_and_command(launch)
    if folder and output is not None:
        raise UsageError(
            f"two places for the dump: -o {output} and {folder}", hint="leave one of them out"
        )
    return "", output if output is not None else folder, command


def _take(request: Request) -> int:
    """Take the dumps; what was taken before a failure is reported all the same. The exit code."""
    if request.triggers:
        return wait(request)
    from ..capture import Capture
    from ..monitor import found_process
    from ..platforms import configure, open_target
    from ..platforms.options import DumpOptions
    from ..report import CaptureReport

    reports: list[CaptureReport] = []
    interval_s = _INTERVAL_S if request.interval_s is None else request.interval_s
    pid = 0
    try:
        pid = found_process(request.process, wait_for_name=request.wait_for_name)
        with open_target(pid) as target:
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
                    packed=request.level is not None,
                    given_before=[report.path for report in reports],
                )

            paths()  # a name that cannot serve is told at once
            with talk.waiting(f"reading {target.name}"):
                capture = Capture(target, request.modes, dac=request.dac)
            with capture:
                for number in range(request.count):
                    if number:
                        talk.say(f"next dump in {interval_s:g} s; Ctrl+C ends")
                        time.sleep(interval_s)
                    with talk.progress(f"dumping {target.name}") as progress:
                        taken = capture.write(
                            paths(),
                            async_copy=request.async_copy,
                            overwrite=request.overwrite,
                            level=request.level,
                            progress=progress,
                        )
                    reports += taken
                    if not request.as_json:
                        talk.result("\n".join(map(render.dump_text, taken)))
    except KeyboardInterrupt:
        if pid:
            talk.say(f"process {request.process} runs on")
        raise
    finally:
        if request.as_json and reports:
            single = request.count == 1 and len(request.modes) == 1
            rows = [report.as_dict() for report in reports]
            talk.data(rows[0] if single else rows)
    return 0
