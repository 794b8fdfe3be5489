"""What became of a dump: the record that the command line shows and the dump itself carries."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .plan import CaptureWarning, DumpMode
from .ranges import Reason


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
    """How long copying and writing took; with `async_copy` mostly after the pause."""
    total_s: float
    async_copy: bool
    totals: dict[Reason, int]
    """Bytes under each reason; a page with several counts under each."""
    clr: dict[str, Any]
    warnings: tuple[CaptureWarning, ...]

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
            "async": self.async_copy,
            "totals": {reason.name: size for reason, size in self.totals.items()},
            "clr": self.clr,
            "warnings": [_warning_dict(warning) for warning in self.warnings],
        }


def _warning_dict(warning: CaptureWarning) -> dict[str, object]:
    return {key: value for key, value in dataclasses.asdict(warning).items() if value is not None}
