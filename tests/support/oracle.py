"""What stock ClrMD reads from a dump, and where two dumps differ."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import runtimes, targets

DEADLINE_S = 300.0
STACK_ROOTS = "stack-roots"
Sections = dict[str, list[str]]


def sections(
    file: Path, dac: Path, names: Sequence[str] = (), *, details: bool = False
) -> Sections:
    """The lines that the Oracle prints of a dump, by section: those of `names`, or all.

    `details` gives every object and member where else a hash stands for many. Stack roots come
    from runs of their own: where the DAC crashes in those of a thread, it says "crashed" there.
    """
    options = ["--list"] if details else []
    others = [name for name in names if name != STACK_ROOTS]
    found: Sections = {}
    if others or not names:
        wanted = ["--sections", ",".join(others)] if others else []
        found = parsed(_run(file, dac, *wanted, *options))
    if STACK_ROOTS in names or not names:
        found[STACK_ROOTS] = _stack_roots(file, dac)
    return found


def differences(one: Sections, other: Sections) -> Sections:
    """By section: the lines that only `one` has (-) and that only `other` has (+)."""
    found = {}
    for name in {**one, **other}:
        here, there = one.get(name, []), other.get(name, [])
        if here != there:
            lines = difflib.unified_diff(here, there, n=0, lineterm="")
            found[name] = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return found


def _run(file: Path, dac: Path, *options: str, may_crash: bool = False) -> str:
    program = targets.built() / "Oracle" / "release" / "Oracle.dll"
    done = subprocess.run(
        [runtimes.root("10.0.14") / "dotnet", program, "dump", file, dac, *options],
        env=runtimes.dotnet_environment("10.0.14"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    crashed = done.returncode < 0
    assert done.returncode == 0 or (crashed and may_crash), (
        f"the Oracle ended with {done.returncode} after {done.stdout[-200:]!r}: {done.stderr}"
    )
    return done.stdout + ("\ncrashed" if crashed else "")


def parsed(text: str) -> Sections:
    """The lines of the Oracle's output by section."""
    found: Sections = {}
    for line in text.splitlines():
        if line.startswith("["):
            lines = found.setdefault(line.strip("[]"), [])
        else:
            lines.append(line)
    return found


def _stack_roots(file: Path, dac: Path) -> list[str]:
    """Walks all threads, again without the one that the last walk crashed in."""
    crashed: list[str] = []
    while True:
        skip = ["--skip", ",".join(crashed)] if crashed else []
        text = _run(file, dac, "--sections", STACK_ROOTS, *skip, may_crash=True)
        lines = parsed(text)[STACK_ROOTS]
        if lines[-1:] != ["crashed"]:
            return lines + [f"thread {tid} crashed" for tid in crashed]
        threads = [line.split()[1] for line in lines if line.startswith("thread ")]
        crashed.append(threads[-1])
