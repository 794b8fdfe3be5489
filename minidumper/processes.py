"""The .NET processes that can be seen, as people know them."""

from __future__ import annotations

import mmap
import os
import re
from dataclasses import asdict, dataclass
from typing import Any

from . import platforms
from .clr.runtime import known_version
from .platforms.finding import DotnetProcess

_STAMP = re.compile(rb"@\(#\)Version (\d+(?:\.\d+)+)")
"""What the build puts into every native library of .NET: eng/native/version, dotnet/runtime."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A .NET process. Sizes are bytes; None and "" are what could not be seen.

    `namespace_pid` is its pid in its own namespace, `gc` "server" or "workstation", `heap` what
    the GC has committed, about, `container` the start of its id, `missing` why it could not be
    dumped, as far as that can be told without stopping it.
    """

    pid: int
    namespace_pid: int
    user: str
    name: str
    version: str
    gc: str
    heap: int | None
    rss: int
    container: str
    command: str
    missing: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def dotnet_processes() -> list[ProcessRow]:
    """All .NET processes that can be seen, by pid."""
    return sorted(map(_row, platforms.dotnet_processes()), key=lambda row: row.pid)


def _row(process: DotnetProcess) -> ProcessRow:
    modes = {True: "server", False: "workstation", None: ""}
    return ProcessRow(
        pid=process.pid,
        namespace_pid=process.namespace_pid,
        user=process.user,
        name=_name(process),
        version=_version(process),
        gc=modes[process.server_gc],
        heap=process.heap,
        rss=process.rss,
        container=process.container,
        command=" ".join(" ".join(process.arguments).split()),
        missing=process.missing,
    )


def _name(process: DotnetProcess) -> str:
    """That of the .dll where the dotnet host runs one."""
    if process.name == "dotnet":
        dll = next((word for word in process.arguments[1:] if word.endswith(".dll")), "")
        return os.path.basename(dll).removesuffix(".dll") or process.name
    return process.name


def _version(process: DotnetProcess) -> str:
    """By the runtime's folder, else (self-contained) by what is stamped into its file."""
    if not process.runtime:
        return ""
    version = known_version("", process.runtime)
    if version:
        return version
    try:
        with (
            open(process.root + process.runtime, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            found = _STAMP.search(data)
            return known_version(found[1].decode(), process.runtime) if found else ""
    except (OSError, ValueError):  # deleted, or an empty file stands there now
        return ""
