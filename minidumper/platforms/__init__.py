"""The only place that asks which system this is."""

from __future__ import annotations

import sys

from ..errors import UnsupportedTargetError
from ..target import CaptureBackend, LiveTarget

__all__ = ["backend", "open_target"]


def open_target(process: int | str) -> LiveTarget:
    """Open a live process by pid or name; use it in `with`, which closes it.

    Raises:
        TargetNotFoundError, AmbiguousTargetError: none, or several, match.
        AccessDeniedError: the system does not let us look into it.
    """
    from .finding import find_pid

    pid = process if isinstance(process, int) else find_pid(process)
    if sys.platform == "linux":
        from .linux.process import LinuxProcess

        return LinuxProcess(pid)
    raise _unsupported()


def backend() -> CaptureBackend:
    """This system's files and limits."""
    if sys.platform == "linux":
        from .linux.backend import LinuxBackend

        return LinuxBackend()
    raise _unsupported()


def _unsupported() -> UnsupportedTargetError:
    return UnsupportedTargetError(f"minidumper does not run on {sys.platform} yet")
