"""The only place that asks which system this is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import UnsupportedTargetError
from ..target import CaptureBackend, LiveTarget

if TYPE_CHECKING:
    from .finding import DotnetProcess

__all__ = ["backend", "dotnet_processes", "open_target"]


def open_target(process: int | str) -> LiveTarget:
    """Open a live process by pid or name; use it in `with`, which closes it.

    Raises:
        TargetNotFoundError, AmbiguousTargetError: none, or several, match.
        AccessDeniedError: the system does not let us look into it.
    """
    pid = process if isinstance(process, int) else _pid_of(process)
    if sys.platform == "linux":
        from .linux.process import LinuxProcess

        return LinuxProcess(pid)
    if sys.platform == "win32":
        from .windows.process import WindowsProcess

        return WindowsProcess(pid)
    raise _unsupported()


def dotnet_processes() -> Iterator[DotnetProcess]:
    """The .NET processes of this machine, as far as they can be seen."""
    if sys.platform == "linux":
        from .linux.dotnet import dotnet_processes

        return dotnet_processes()
    raise _unsupported()


def backend() -> CaptureBackend:
    """This system's files and limits."""
    if sys.platform == "linux":
        from .linux.backend import LinuxBackend

        return LinuxBackend()
    if sys.platform == "win32":
        from .windows.backend import WindowsBackend

        return WindowsBackend()
    raise _unsupported()


def _pid_of(name: str) -> int:
    from .finding import find_pid

    if sys.platform == "win32":
        from .windows.finding import candidates
    else:
        from .finding import candidates
    return find_pid(name, candidates())


def _unsupported() -> UnsupportedTargetError:
    return UnsupportedTargetError(f"minidumper does not run on {sys.platform} yet")
