"""What a wait takes: memory in use."""

from __future__ import annotations

import psutil

from ...errors import TargetExitedError


def commit_charge(pid: int) -> int:
    """Bytes of the commit charge (PROCESS_MEMORY_COUNTERS.PagefileUsage).

    Raises:
        TargetExitedError: the process is gone.
    """
    try:
        # psutil names the fields of each system's own structure.
        return int(getattr(psutil.Process(pid).memory_info(), "pagefile"))  # noqa: B009
    except psutil.NoSuchProcess:
        raise TargetExitedError(f"process {pid} ended", pid=pid) from None
