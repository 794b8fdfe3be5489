"""What Linux does for a capture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...target import LiveTarget
from .limits import available_memory, cgroup_headroom
from .output import OutputFile, free_space, output_error

if TYPE_CHECKING:
    from .process import LinuxProcess
    from .snapshot import Snapshot


class LinuxBackend:
    """Files and limits."""

    sequential = True
    output_error = staticmethod(output_error)
    free_space = staticmethod(free_space)

    def output(self, path: str, *, overwrite: bool) -> OutputFile:
        """A file that appears only when it is whole."""
        return OutputFile(path, overwrite=overwrite)

    def prepare_snapshot(self, target: LiveTarget) -> Callable[[], Snapshot]:
        """What takes a snapshot inside `stopped()`.

        Raises:
            CaptureError: this process cannot be snapshot, with the reason.
        """
        from .snapshot import prepare_snapshot, take_snapshot

        process = cast("LinuxProcess", target)
        gadgets = prepare_snapshot(process)
        return lambda: take_snapshot(process, gadgets)

    def free_memory(self) -> tuple[int, str]:
        """Bytes that a copy may take, and whose limit that is."""
        free = (available_memory(), "MemAvailable of this machine")
        group = cgroup_headroom()
        if group is None or free[0] <= group[0]:
            return free
        return group[0], f"the limit of control group {group[1]}"


_OOM_SCORE = Path("/proc/self/oom_score_adj")
_before = ""


def prefer_to_be_killed() -> None:
    """Take the highest oom_score_adj, which children inherit (proc(5): -1000 to 1000)."""
    global _before
    with suppress(OSError):  # /proc may be read-only; then the kernel chooses by size
        _before = _before or _OOM_SCORE.read_text()
        _OOM_SCORE.write_text("1000")


def restore_oom_score(pid: int) -> None:
    """Give a program that we launch what we had ourselves."""
    with suppress(OSError):
        if _before:
            Path(f"/proc/{pid}/oom_score_adj").write_text(_before)
