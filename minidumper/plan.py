"""A dump's mode and its plan: which ranges, why, how large. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .ranges import Reason, ReasonedRange


class DumpMode(enum.Enum):
    """What a dump holds."""

    MINIMAL = "minimal"
    HEAP = "heap"
    FULL = "full"

    @classmethod
    def parse(cls, text: str) -> DumpMode:
        """A mode by its name or first letter as in `-mm`, `-mh`, `-ma`.

        Raises:
            ValueError: no mode of that name.
        """
        short = {"m": cls.MINIMAL, "h": cls.HEAP, "a": cls.FULL}
        return short.get(text.lower()) or cls(text.lower())

    @property
    def suffix(self) -> str:
        """What several dumps of one stop have in their file names."""
        return {"minimal": "_mini", "heap": "_heap", "full": "_full"}[self.value]


@dataclass(frozen=True, slots=True)
class CaptureWarning:
    """Something that could not be captured or is not as usual; kept in the report and the dump."""

    stage: str
    message: str
    address: int | None = None
    tid: int | None = None


@dataclass(frozen=True, slots=True)
class DumpPlan:
    """The ranges of a dump: sorted, disjoint, page aligned, readable, each with its reasons."""

    mode: DumpMode
    ranges: tuple[ReasonedRange, ...]
    warnings: tuple[CaptureWarning, ...] = ()
    clr: Mapping[str, object] = field(default_factory=dict)
    """What the CLR side told: runtime version, GC mode, GC bytes in use, counts."""

    @property
    def size(self) -> int:
        """Bytes of memory, pages that are known to be zero included."""
        return sum(r.end - r.start for r in self.ranges)

    @property
    def can_walk(self) -> bool:
        """False where the GC, or a thread with a large object, was in the middle of its work."""
        return bool(self.clr.get("can_walk", True))

    def by_reason(self) -> dict[Reason, int]:
        """Bytes under each single reason; a page with several reasons counts under each."""
        totals: dict[Reason, int] = {}
        for reason in Reason:
            size = sum(r.end - r.start for r in self.ranges if r.reasons & reason)
            if size:
                totals[reason] = size
        return totals


def describe(warnings: Sequence[CaptureWarning]) -> list[str]:
    """One line a warning."""
    return [f"{w.stage}: {w.message}" for w in warnings]
