"""Dumps of a running process, several of one stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.plan import DumpMode
from minidumper.report import CaptureReport

MODES = (DumpMode.MINIMAL, DumpMode.HEAP, DumpMode.FULL)


def dump(
    pid: int,
    folder: Path,
    modes: Sequence[DumpMode] = MODES,
    *,
    dac: Sequence[Path] = (),
    async_copy: bool = False,
) -> list[CaptureReport]:
    """One dump for each mode, of one stop, in files of `folder` with the modes' names."""
    with platforms.open_target(pid) as target, Capture(target, modes, dac=dac) as capture:
        paths = [str(folder / mode.value) for mode in modes]
        return capture.write(paths, async_copy=async_copy)
