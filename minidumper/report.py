"""What became of a dump: the record that the command line shows and the dump itself carries."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .plan import CaptureWarning, DumpMode
from .ranges import Reason


class Way(Enum):
    """What a dump was written from, and so how long its target stood still."""

    STOP = "stop"
    """The process itself, which stood still meanwhile."""
    COPY = "copy"
    """A copy in memory, made while it stood still."""
    SNAPSHOT = "snapshot"
    """A fork of the process: it stood still for that alone."""


@dataclass(frozen=True, slots=True)
class ExceptionInfo:
    """What a thread was stopped at: a managed exception, or a signal that nobody catches.

    `code` has eight hexadecimal digits: E0434352 for a managed exception (EXCEPTION_COMPLUS,
    corexcep.h), else the number of the signal. `chance` is 1 at the throw, 2 where it is unhandled.
    """

    code: str
    chance: int
    tid: int
    type: str = ""
    message: str = ""
    hresult: int = 0
    address: int = 0
    inner: tuple[tuple[str, str], ...] = ()
    """Type and message of each inner exception, from the outermost on."""

    def __str__(self) -> str:
        """As filters see it: CODE.Type ("message")."""
        return f'{self.code}.{self.type} ("{self.message}")'


@dataclass(frozen=True, slots=True)
class Moment:
    """What a target is held at while it is dumped."""

    trigger: str
    """What was waited for: "exception", "crash", "output", "exit" or "memory"."""
    exception: ExceptionInfo | None = None
    line: str = ""
    """The debug output that was waited for."""

    @property
    def is_end(self) -> bool:
        """Whether the process ends of it, so that it comes once."""
        unhandled = self.exception is not None and self.exception.chance != 1
        return self.trigger == "exit" or unhandled


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What became of one dump. Sizes are bytes, times seconds."""

    path: str
    mode: DumpMode
    pid: int
    name: str
    size: int
    """Apparent size of the file."""
    disk_size: int
    """What the file takes on the disk: pages that are zero are holes."""
    pause_s: float
    """How long the target stood still, for all dumps of this stop."""
    write_s: float
    """How long writing took: within the pause by `Way.STOP`, else after it."""
    total_s: float
    way: Way
    copied_on_write: int | None
    """What the target had to copy, as it wrote to pages that a snapshot held."""
    totals: dict[Reason, int]
    """Bytes under each reason; a page with several counts under each."""
    clr: dict[str, Any]
    warnings: tuple[CaptureWarning, ...]
    moment: Moment | None = None
    """What was waited for; None for a dump that was taken at once."""

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "path": self.path,
            "mode": self.mode.value,
            "pid": self.pid,
            "name": self.name,
            "size": self.size,
            "disk_size": self.disk_size,
            "pause_s": round(self.pause_s, 6),
            "write_s": round(self.write_s, 6),
            "total_s": round(self.total_s, 6),
            "way": self.way.value,
            "copied_on_write": self.copied_on_write,
            "totals": {reason.name: size for reason, size in self.totals.items()},
            "clr": self.clr,
            "warnings": [warning_dict(warning) for warning in self.warnings],
            **(dataclasses.asdict(self.moment) if self.moment else {}),
        }


def warning_dict(warning: CaptureWarning) -> dict[str, object]:
    """A warning as plain values for JSON, without those it does not have."""
    return {key: value for key, value in dataclasses.asdict(warning).items() if value is not None}
