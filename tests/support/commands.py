"""The command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .paths import CHECKOUT

PROGRAM = [sys.executable, "-m", "minidumper"]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
}


def minidumper(
    *words: str | Path | int,
    cwd: Path,
    prefix: Sequence[str | Path] = (),
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `env` comes on top of our own environment, `prefix` starts it."""
    return subprocess.run(
        [*prefix, *PROGRAM, *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT | dict(env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


class _Started(subprocess.Popen[str]):
    """Ended by what goes wrong with the test."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind:
            self.kill()
        super().__exit__(kind, *rest)


def started(
    *words: str | Path | int,
    cwd: Path,
    prefix: Sequence[str] = (),
    stdin: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start it; use it in `with`. `env` comes on top of our own environment."""
    return _Started(
        [*prefix, *PROGRAM, *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT | dict(env or {}),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
