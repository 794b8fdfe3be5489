"""The entry point: which command, and how every way out of it is told."""

from __future__ import annotations

import importlib
import io
import signal
import sys
from collections.abc import Sequence

import click

from .. import platforms
from ..errors import EXIT_FAILED, EXIT_INTERRUPTED, MiniDumperError
from . import talk

COMMANDS = ("demo", "doctor", "heapstat", "info", "ps", "regions", "strip", "unpack", "verify")
"""First words that name a command, each a module; any other belongs to `dump`."""


def main() -> int:
    """Run the command line of this process; returns the exit code."""
    platforms.prefer_to_be_killed()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path need not be text, nor a locale UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    _interrupt_on("SIGTERM")
    _interrupt_on("SIGHUP")
    return run(sys.argv[1:])


def run(words: Sequence[str]) -> int:
    """Run one command; every error becomes a line on standard error and an exit code."""
    talk.begin()
    name, *rest = words if words and words[0] in COMMANDS else ("dump", *words)
    program = f"minidumper {name}" if name in COMMANDS else "minidumper"
    command: click.Command = importlib.import_module(f".{name}", __package__).command
    try:
        with command.make_context(program, rest) as context:
            command.invoke(context)
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except click.ClickException as err:
        message = err.format_message().rstrip(".")
        talk.complain(err, message[:1].lower() + message[1:], f"see: {program} --help")
        return err.exit_code
    except MiniDumperError as err:
        talk.complain(err, str(err), err.hint)
        return err.exit_code
    except KeyboardInterrupt:
        click.echo("minidumper: interrupted", err=True)
        return EXIT_INTERRUPTED
    except Exception as err:
        hint = "this should not happen: please report it, with what -v shows"
        talk.complain(err, f"internal error: {type(err).__name__}: {err}", hint)
        return EXIT_FAILED
    return 0


def _interrupt_on(name: str) -> None:
    """Take a signal for Ctrl+C, unless it is ignored (nohup) or unknown to this system."""
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler)
