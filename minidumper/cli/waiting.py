"""Waits for the moment, and tells of the dumps as they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import TargetExitedError
from ..plan import DumpMode
from . import render, talk

if TYPE_CHECKING:  # loads the CLR side
    from ..monitor import Monitor


@dataclass(frozen=True, slots=True)
class Triggers:
    """What is waited for; false where nothing is."""

    chance: int
    texts: Sequence[str]
    excluded: Sequence[str]
    types: Sequence[str]
    output: bool
    """Whether `texts` and `excluded` choose among debug output."""
    on_exit: bool
    above_mb: float | None
    below_mb: float | None

    def __bool__(self) -> bool:
        limits = (self.above_mb, self.below_mb)
        return bool(self.chance or self.output or self.on_exit) or limits != (None, None)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    process: int | str
    launch: Sequence[str]
    new_console: bool
    wait_for_name: bool
    triggers: Triggers
    fallback: bool
    show: bool
    place: str | None
    modes: Sequence[DumpMode]
    dac: Sequence[Path]
    count: int
    interval_s: float | None
    async_copy: bool
    overwrite: bool
    level: int | None
    writer: str
    dbghelp: str
    as_json: bool


def wait(request: Request) -> int:
    """Take dumps at what the triggers say; the exit code.

    Raises:
        TargetExitedError: the process ended, and nothing came that was waited for.
        MiniDumperError: a dump failed.
    """
    monitor = _monitor(request)
    reports = []
    try:
        for report in monitor.run():
            reports.append(report)
            if not request.as_json:
                talk.result(render.dump_text(report))
        if monitor.launched:
            return monitor.launched.wait()
    except BaseException:
        if monitor.launched:
            monitor.launched.leave()
        raise
    finally:
        if request.as_json and reports:
            talk.data([report.as_dict() for report in reports])
    if not reports:
        raise TargetExitedError("the process ended before anything came that was waited for")
    return 0


def _monitor(request: Request) -> Monitor:
    from ..monitor import Monitor
    from ..platforms.options import DumpOptions

    monitor = Monitor(
        None if request.launch else request.process,
        request.modes,
        request.place,
        launch=request.launch,
        new_console=request.new_console,
        wait_for_name=request.wait_for_name,
        count=request.count,
        interval_s=request.interval_s,
        fallback=request.fallback,
        show=request.show,
        async_copy=request.async_copy,
        overwrite=request.overwrite,
        compress=request.level,
        dac=request.dac,
        options=DumpOptions(writer=request.writer, dbghelp=request.dbghelp),
    )
    triggers = request.triggers
    if triggers.chance:
        monitor.on_exception(
            triggers.chance,
            filter=triggers.texts,
            exclude=triggers.excluded,
            type=triggers.types,
        )
    if triggers.output:
        monitor.on_output(triggers.texts, triggers.excluded)
    if triggers.on_exit:
        monitor.on_exit()
    monitor.on_memory(above_mb=triggers.above_mb, below_mb=triggers.below_mb)
    return monitor
