"""Talks with a minidumper that waits, and with its target."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import runtimes
from .commands import ENVIRONMENT, PROGRAM
from .targets import Running

DEADLINE_S = 60


def await_line(process: subprocess.Popen[str], text: str) -> None:
    """Read what it says up to a line with `text`."""
    assert process.stderr
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, f"it ended without {text!r}: {said}"
        said += line


def reports(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The reports of a wait that ends well."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def tell(app: Running, word: str) -> None:
    """Say a word that has no answer: the process ends of it."""
    assert app.process.stdin
    app.process.stdin.write(f"{word}\n".encode())
    app.process.stdin.flush()


def launch(
    *words: str | Path, program: Sequence[str | Path], cwd: Path, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run minidumper -x to its end, with dotnet in the PATH."""
    dotnet = runtimes.root("10.0.14")
    path = {"PATH": f"{dotnet}:{os.environ['PATH']}"}
    return subprocess.run(
        [*PROGRAM, *map(str, words), "-x", *map(str, program)],
        cwd=cwd,
        env=ENVIRONMENT | runtimes.dotnet_environment("10.0.14") | path,
        input=typed,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
