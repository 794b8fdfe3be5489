"""Which processes a name means: the process's own name, or that of the .dll that dotnet runs."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from ..errors import AmbiguousTargetError, TargetNotFoundError

_SUFFIXES = (".exe", ".dll")


class Candidate(NamedTuple):
    """A running process; `names` are those that a user may mean it by."""

    pid: int
    names: frozenset[str]
    command: str


def candidates() -> Iterator[Candidate]:
    """All processes but this one."""
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        if process.pid == os.getpid():
            continue
        arguments = process.info["cmdline"] or []
        names = {process.info["name"] or ""}
        names.update(_plain(os.path.basename(word)) for word in arguments[:1])
        dll = next((word for word in arguments[1:] if word.endswith(".dll")), None)
        if dll:
            names.add(_plain(os.path.basename(dll)))
        yield Candidate(process.pid, frozenset(names - {""}), " ".join(arguments))


def find_pid(name: str) -> int:
    """The process that `name` means; `*` and `?` are allowed, .exe and .dll may be left out.

    Raises:
        TargetNotFoundError: no process has that name.
        AmbiguousTargetError: several have.
    """
    pattern = _plain(name).lower()
    found = [
        candidate
        for candidate in candidates()
        if any(fnmatch.fnmatchcase(own.lower(), pattern) for own in candidate.names)
    ]
    if not found:
        raise TargetNotFoundError(
            f"no process is named {name}", name=name, hint="see: ps -e; or give its pid"
        )
    if len(found) > 1:
        raise AmbiguousTargetError(
            f"{len(found)} processes are named {name}",
            name=name,
            candidates=[(candidate.pid, candidate.command) for candidate in found],
            hint="give the pid of one of them",
        )
    return found[0].pid


def _plain(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
