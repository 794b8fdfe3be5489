"""What the user is told: results to standard output, the talk to standard error."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TextIO

import click

from ..errors import AmbiguousTargetError, UsageError
from . import render

_LOG = logging.getLogger("minidumper")
_results = True  # to standard output
_traces = False  # of errors
_COMMAND_WIDTH = 68  # characters of a candidate's command line: 80 columns with its pid


class _ToStandardError(logging.Handler):
    """Log lines for the user; standard error is looked up anew for each."""

    times = False

    def emit(self, record: logging.LogRecord) -> None:
        when = f"{datetime.fromtimestamp(record.created):%H:%M:%S.%f} " if self.times else ""
        _echo(f"minidumper: {when}{render.one_line(record.getMessage())}")


_HANDLER = _ToStandardError()


def begin(
    *, quiet: bool = False, verbose: bool = False, times: bool = False, results: bool = True
) -> None:
    """Set how much is told: errors alone, what matters, or every step; with `times`, when, too.

    Without `results` to standard output, which then is a dump's, they go to standard error.

    Raises:
        UsageError: both at once.
    """
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other")
    steps = verbose or times
    _LOG.setLevel(logging.ERROR if quiet else logging.DEBUG if steps else logging.INFO)
    global _results, _traces
    _results = results
    _traces = verbose
    _HANDLER.times = times
    if not _LOG.handlers:
        _LOG.addHandler(_HANDLER)


def say(text: str) -> None:
    """Tell something on standard error, unless the user wants errors alone."""
    _LOG.info(text)


def result(text: str) -> None:
    """Write a result to standard output, unless the user wants errors alone."""
    if _LOG.isEnabledFor(logging.INFO):
        _write(text)


def width() -> int | None:
    """The columns of the terminal that results go to, None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def listing(lines: Sequence[str]) -> None:
    """Write a table to standard output: on a terminal as wide as that, a long one by a pager."""
    columns = width()
    text = "\n".join(line[:columns] for line in lines)
    height = shutil.get_terminal_size().lines
    if columns and len(lines) >= height and _LOG.isEnabledFor(logging.INFO):
        click.echo_via_pager(text)
    else:
        result(text)


def data(value: object) -> None:
    """Write a result as JSON to standard output: who asks for it wants it, however quiet."""
    _write(render.as_json(value))


def rows(lines: Iterable[Iterable[object]]) -> None:
    """Write a result as CSV to standard output, however quiet, too."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    _write(out.getvalue().rstrip("\n"))


def _write(text: str) -> None:
    file = sys.stdout if _results else sys.stderr
    with _outliving_its_reader(file):
        print(text, file=file, flush=True)


def _echo(text: str) -> None:
    with _outliving_its_reader(sys.stderr):
        click.echo(text, err=True)


@contextlib.contextmanager
def _outliving_its_reader(file: TextIO) -> Iterator[None]:
    """That a pipe's reader goes away is no error of ours: a wait goes on, unheard."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes once more at its end (docs.python.org/3/library/signal.html, SIGPIPE).
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), file.fileno())


def complain(err: BaseException, what: str, hint: str = "") -> None:
    """One line for an error, one for its hint; with -v all of both, and where it came from."""
    if not _traces:
        what, hint = (text.strip().partition("\n")[0] for text in (what, hint))
    _echo(f"minidumper: error: {what if _traces else render.one_line(what)}")
    if isinstance(err, AmbiguousTargetError):
        for pid, command in err.candidates:
            _echo(f"  {pid:>8}  {command[:_COMMAND_WIDTH]}")
    if hint:
        _echo(f"hint: {hint}")
    if _traces:
        _echo("".join(traceback.format_exception(err)).rstrip())


def _on_a_terminal() -> bool:
    # There is no standard error at all where it was closed: 2>&-
    return sys.stderr is not None and sys.stderr.isatty() and _LOG.isEnabledFor(logging.INFO)


@contextlib.contextmanager
def waiting(step: str) -> Iterator[None]:
    """Show that something is under way, on a terminal alone."""
    if not _on_a_terminal():
        yield
        return
    # Rich is slow to load, so nobody pays who has no use for it.
    from rich.console import Console

    with Console(stderr=True).status(step):
        yield


@contextlib.contextmanager
def following(step: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show which part is under way and how far, on a terminal alone; None where there is none."""
    if not _on_a_terminal():
        yield None
        return
    from rich.console import Console

    def tell(part: str, done: int, total: int) -> None:
        status.update(f"{step}: {part} {f'{done / total:.0%}' if total else ''}")

    with Console(stderr=True).status(step) as status:
        yield tell


@contextlib.contextmanager
def progress(step: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with bytes, MB/s and time left, on a terminal alone; None where there is none."""
    if not _on_a_terminal():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(step, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
