"""Which processes a name means: the process's own name, or that of the .dll that dotnet runs."""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import psutil

from ..errors import AmbiguousTargetError, TargetNotFoundError

_SUFFIXES = (".exe", ".dll")


class Candidate(NamedTuple):
    """A running process; `names` are those that a user may mean it by."""

    pid: int
    names: frozenset[str]
    command: str


class DotnetProcess(NamedTuple):
    """A .NET process as its system tells; sizes are bytes, None and "" are what it hides.

    `namespace_pid` is its pid in its own namespace, `runtime` the path of its runtime below
    `root`, `heap` what the GC has committed, about, and `missing` why it could not be dumped.
    """

    pid: int
    namespace_pid: int
    user: str
    name: str
    arguments: tuple[str, ...]
    runtime: str
    root: str
    server_gc: bool | None
    heap: int | None
    rss: int
    container: str
    missing: str


def candidates() -> Iterator[Candidate]:
    """All processes but this one."""
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        if process.pid != os.getpid():
            yield candidate(process.pid, process.info["name"] or "", process.info["cmdline"] or [])


def candidate(pid: int, name: str, arguments: Sequence[str]) -> Candidate:
    """A process by its own name, its program's, and that of the .dll which dotnet runs."""
    names = {_plain(os.path.basename(word)) for word in (name, *arguments[:1])}
    if "dotnet" in names:  # and not "sudo dotnet MyApp.dll" or "minidumper -mh MyApp.dll"
        dlls = (word for word in arguments[1:] if word.lower().endswith(".dll"))
        names.update(_plain(os.path.basename(word)) for word in itertools.islice(dlls, 1))
    # Folders of programs say little and would push what differs out of sight.
    words = (os.path.basename(word) if word[:1] == "/" else word for word in arguments)
    return Candidate(pid, frozenset(names - {""}), " ".join(" ".join(words).split()) or name)


def find_pid(name: str, among: Iterable[Candidate]) -> int:
    """The one of `among` that `name` means; `*` and `?` are allowed, .exe and .dll left out.

    Raises:
        TargetNotFoundError: no process has that name.
        AmbiguousTargetError: several have.
    """
    pattern = _plain(name).lower()
    found = [
        process
        for process in among
        if any(fnmatch.fnmatchcase(own.lower(), pattern) for own in process.names)
    ]
    if not found:
        raise TargetNotFoundError(
            f"no process is named {name}", name=name, hint="see: minidumper ps; or give its pid"
        )
    if len(found) > 1:
        raise AmbiguousTargetError(
            f"{len(found)} processes are named {name}",
            name=name,
            candidates=[(process.pid, process.command) for process in found],
            hint="give the pid of one of them",
        )
    return found[0].pid


def _plain(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
