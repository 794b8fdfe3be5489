"""What a session is told: what is waited for, and how the dumps are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..outputs import Progress
from ..plan import DumpMode
from ..platforms.options import DumpOptions
from ..watching import TextFilter
from .conditions import FIRST_CHANCE, ExceptionCondition, MemoryCondition


@dataclass(slots=True)
class Wants:
    """What is waited for."""

    exceptions: ExceptionCondition | None = None
    memory: MemoryCondition = field(default_factory=MemoryCondition)
    output: TextFilter | None = None
    exits: bool = False
    shows: bool = False
    """Whether exceptions that do not count, debug output, threads and modules are told of."""
    interval_s: float = 0.0

    @property
    def first_chance(self) -> bool:
        """Whether exceptions count where they are thrown."""
        return self.exceptions is not None and self.exceptions.chance == FIRST_CHANCE

    @property
    def throws(self) -> bool:
        """Whether exceptions are looked at where they are thrown, or debug output is."""
        return self.first_chance or self.shows or self.output is not None

    @property
    def holds(self) -> bool:
        """Whether the process must be held at an event."""
        return bool(self.exceptions or self.output or self.exits or self.shows)


@dataclass(frozen=True, slots=True)
class DumpSettings:
    """How the dumps are taken; see `write_dump`."""

    modes: Sequence[DumpMode]
    path: str | None
    repeated: bool
    async_copy: bool = False
    overwrite: bool = False
    level: int | None = None
    dac: Sequence[Path] = ()
    options: DumpOptions = field(default_factory=DumpOptions)
    progress: Progress | None = None
    falls_back: bool = True
    shares_terminal: bool = False
    """Whether it is in our terminal's foreground with us."""
