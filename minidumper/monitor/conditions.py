"""What a monitor waits for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..report import ExceptionInfo
from ..watching import Verdict

FIRST_CHANCE = 1
UNHANDLED = 2

Decide = Callable[[ExceptionInfo], bool]
"""A callback of the user's own: whether an exception counts."""


@dataclass(frozen=True, slots=True)
class ExceptionCondition:
    """Which exceptions count: one of `texts` and none of `excluded` in it, one of `types`.

    `*` and `?` stand for any characters and any one, upper and lower case are the same, all else
    is literal. Texts match anywhere in `CODE.Type ("message")`; types are whole names with their
    namespace, of the exception's type or one that it is derived from.
    """

    chance: int = UNHANDLED
    texts: Sequence[str] = ()
    excluded: Sequence[str] = ()
    types: Sequence[str] = ()
    decide: Decide | None = None

    def verdict(self, types: Sequence[str]) -> Verdict:
        """Whether exceptions of a type count; `types` are its name and those of its bases."""
        if self.types and not any(
            _matches(wanted, name) for wanted in self.types for name in types
        ):
            return Verdict.DISMISSED
        return Verdict.BY_TEXT if self.texts or self.excluded else Verdict.MATCHES

    def matches_text(self, text: str) -> bool:
        """Whether a text has what must be in it, and nothing of what must not."""
        return (
            not self.texts or any(_matches(f"*{wanted}*", text) for wanted in self.texts)
        ) and not any(_matches(f"*{unwanted}*", text) for unwanted in self.excluded)

    def counts(self, exception: ExceptionInfo, types: Sequence[str]) -> bool:
        """Whether an exception counts; `types` are its type's name and those of its bases."""
        return (
            self.verdict(types) is not Verdict.DISMISSED
            and self.matches_text(str(exception))
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


def _matches(pattern: str, text: str) -> bool:
    """Whether the whole text is as the pattern says, in which only * and ? are special."""
    expression = fnmatch.translate(pattern.replace("[", "[[]"))
    return re.fullmatch(expression, text, re.IGNORECASE) is not None
