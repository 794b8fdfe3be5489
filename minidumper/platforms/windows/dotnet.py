"""The .NET processes of this machine, by the modules that each has loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import psutil

from ...errors import NativeCallError
from ..finding import DotnetProcess
from . import toolhelp, win32
from .finding import arguments_of
from .privilege import enable_debug_privilege

_RUNTIMES = ("coreclr.dll", "clr.dll")
_HOST = "dotnet"


def dotnet_processes() -> Iterator[DotnetProcess]:
    """All .NET processes; of those that cannot be looked into only the dotnet host is known."""
    enable_debug_privilege()
    for pid, name in toolhelp.processes():
        stem, _ = os.path.splitext(name)
        try:
            paths = [module.path for module in toolhelp.modules(pid)]
            missing = ""
        except NativeCallError as err:
            paths, missing = [], f"no access ({win32.os_error(err.code).strerror})"
        runtime = next((p for p in paths if os.path.basename(p).lower() in _RUNTIMES), "")
        if runtime or (missing and stem.lower() == _HOST):
            yield _process(pid, stem, runtime, missing)


def _process(pid: int, name: str, runtime: str, missing: str) -> DotnetProcess:
    user, rss = "", 0
    with suppress(psutil.Error, OSError):
        rss = psutil.Process(pid).memory_info().rss
        user = psutil.Process(pid).username()
    return DotnetProcess(
        pid=pid,
        namespace_pid=pid,
        user=user,
        name=name,
        arguments=tuple(arguments_of(pid)),
        runtime=runtime,
        root="",
        server_gc=None,
        heap=None,
        rss=rss,
        container="",
        missing=missing,
    )
