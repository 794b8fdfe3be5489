"""What Linux does inside the worker process."""

from __future__ import annotations

import os
import resource
import signal

from .backend import prefer_to_be_killed
from .libc import PR_SET_PDEATHSIG, prctl


def protect_worker(parent: int) -> None:
    """End with the parent, before the target where memory runs out, and leave no core file."""
    prefer_to_be_killed()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _die_with(parent)


def drop_rights(user: int, group: int) -> None:
    """Become that user for good, in all threads (setuid(2), C library differences)."""
    parent = os.getppid()
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    _die_with(parent)  # a change of user takes it back (prctl(2), PR_SET_PDEATHSIG)


def _die_with(parent: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
