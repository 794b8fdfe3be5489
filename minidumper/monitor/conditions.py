"""What a monitor waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..report import ExceptionInfo
from ..watching import TextFilter, Verdict, matches

FIRST_CHANCE = 1
UNHANDLED = 2

Decide = Callable[[ExceptionInfo], bool]
"""A callback of the user's own: whether an exception counts."""


@dataclass(frozen=True, slots=True)
class ExceptionCondition:
    """Which exceptions count: those whose `CODE.Type ("message")` does, of one of `types`.

    Types are whole names with their namespace, of the exception's type or one that it is derived
    from; `*` and `?` are allowed.
    """

    chance: int = UNHANDLED
    texts: TextFilter = field(default_factory=TextFilter)
    types: Sequence[str] = ()
    decide: Decide | None = None

    def verdict(self, types: Sequence[str]) -> Verdict:
        """Whether exceptions of a type count; `types` are its name and those of its bases."""
        if self.types and not any(matches(wanted, name) for wanted in self.types for name in types):
            return Verdict.DISMISSED
        by_text = self.texts.texts or self.texts.excluded
        return Verdict.BY_TEXT if by_text else Verdict.MATCHES

    def counts(self, exception: ExceptionInfo, types: Sequence[str]) -> bool:
        """Whether an exception counts; `types` are its type's name and those of its bases."""
        return (
            self.verdict(types) is not Verdict.DISMISSED
            and self.texts.matches(str(exception))
            and (self.decide is None or self.decide(exception))
        )


@dataclass(slots=True)
class MemoryCondition:
    """Commit charge above, or below, so many bytes for so long."""

    above: float | None = None
    below: float | None = None
    _since: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self.above is not None or self.below is not None

    def holds(self, commit: int, now: float, hold_s: float) -> bool:
        """Whether it has held for `hold_s` seconds; then it begins anew."""
        beyond = (self.above is not None and commit > self.above) or (
            self.below is not None and commit < self.below
        )
        if not beyond:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now - self._since < hold_s:
            return False
        self._since = None
        return True
