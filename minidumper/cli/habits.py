"""Words of the default command that click does not read itself: -e, -x, procdump's habits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from ..errors import UsageError
from ..images.sequential import LEVEL, LEVELS

LAUNCH = "minidumper.launch"
"""Where a click context keeps the words after -x."""

COMPRESS = "--compress"
_CHANCES = ("1", "2")


def split_launch(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own words, and those after -x, which belong to the program that is launched."""
    own = list(args)
    end = own.index("--") if "--" in own else len(own)
    if "-x" not in own[:end]:
        return own, []
    at = own.index("-x")
    if not own[at + 1 :]:
        raise UsageError("-x needs a program", hint="minidumper -mh -e -x IMAGE [ARGS...]")
    return own[:at], own[at + 1 :]


def refuse_cpu_limit(args: Sequence[str]) -> None:
    """-c takes no value.

    Raises:
        UsageError: it is given procdump's.
    """
    for word, following in itertools.pairwise(args):
        if word == "--":
            return
        if word in ("-c", "-cl") and following.isdecimal():
            raise UsageError(
                f"-c is no CPU limit, as procdump's {word} {following} is: that is not one of "
                "minidumper's triggers",
                hint="leave it out; with -x, -c alone gives the program a console of its own",
            )


def with_chance(args: Sequence[str]) -> list[str]:
    """-e with its value: the next word if that is 1 or 2, else 2.

    Raises:
        UsageError: it is given another digit.
    """
    out: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*out, word, *rest]
        if word == "-e":
            following = rest[0] if rest else ""
            given = len(following) == 1 and is_pid(following)
            if given and following not in _CHANCES:
                raise UsageError(
                    f"-e takes 1 (when they are thrown) or 2 (unhandled), not {following}",
                    hint=f"for process {following}: -e -- {following}",
                )
            word += rest.pop(0) if given else "2"
        out.append(word)
    return out


def with_level(args: Sequence[str]) -> list[str]:
    """The words with a level for --compress: the next word where it is one."""
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    if COMPRESS in words[:end]:
        at = words.index(COMPRESS)
        following = words[at + 1] if at + 1 < end else ""
        given = following.isdecimal() and int(following) in LEVELS
        words[at : at + 1 + given] = [f"{COMPRESS}={following if given else LEVEL}"]
    return words


def folder_and_command(launch: Sequence[str]) -> tuple[str | None, list[str]]:
    """procdump's -x FOLDER IMAGE: a first word that is a folder is where the dumps go.

    Raises:
        UsageError: there is no program after it.
    """
    folder = launch[0] if os.path.isdir(launch[0]) else None
    command = list(launch[1:] if folder else launch)
    if not command:
        raise UsageError(f"-x {folder} names a folder and no program", hint="-x FOLDER IMAGE")
    if command[0].lower().endswith(".dll"):
        command.insert(0, "dotnet")
    return folder, command


def process_and_place(
    words: Sequence[str], output: str | None, chance: str = "", level: int | None = None
) -> tuple[str, str | None]:
    """The process, and the file or folder; habits that clash are named, never guessed at."""
    swallowed = output is not None and is_pid(output)
    if swallowed and (not words or words[0].lower().endswith(".dmp")):
        raise UsageError(
            f"-o took {output} for the name of the file; here -o is no switch as in procdump",
            hint=f"to overwrite: minidumper … --overwrite {' '.join([str(output), *words])}",
        )
    if not words and chance:
        raise UsageError(
            f"-e took {chance} for the kind of exceptions, and no process was given",
            hint=f"minidumper … -e {chance} PID, or for process {chance}: -e -- {chance}",
        )
    if not words and level is not None:
        raise UsageError(
            f"no process was given, and --compress took {level} for its level",
            hint=f"minidumper … {COMPRESS}={level} PID, or for process {level}: "
            f"{COMPRESS} -- {level}",
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


def is_pid(word: str) -> bool:
    return word.isascii() and word.isdecimal()
