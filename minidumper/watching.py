"""What a system tells while we wait for the moment: events, and who tells them. No I/O."""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

from .target import LiveTarget

MANAGED_CODE = "E0434352"
"""What CLR exceptions are called on every system: EXCEPTION_COMPLUS, corexcep.h."""


class EventKind(enum.Enum):
    """What happened in the target; a thread is held at the first six until `resume()`."""

    EXCEPTION = "exception"
    """A managed exception that counts is about to be thrown."""
    SIGNAL = "signal"
    """A thread is about to take a signal that nobody catches: the process ends of it."""
    EXIT = "exit"
    """The process is about to end; its memory is still there."""
    EXEC = "exec"
    """Another program took the place of the one before."""
    OUTPUT = "output"
    """A line of debug output that counts."""
    STAGE = "stage"
    """The program has come so far that `watch_start` is to look again."""
    TYPE = "type"
    """An exception of a type is thrown that no rule is known for: `add_rule` lets it go on."""
    BEGAN = "began"
    """A thread has begun."""
    GONE = "gone"
    """A thread has ended."""
    SEEN = "seen"
    """An exception that does not count; `type` has its code, `inner` those inside it."""
    SAID = "said"
    """Debug output that does not count."""
    LOADED = "loaded"
    """An image was loaded; `message` is its path, `address` its base."""
    UNLOADED = "unloaded"
    """An image is gone."""
    ENDED = "ended"
    """The process is gone."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event; what a kind does not tell is 0 or empty.

    `number` is that of a signal or of an exception of the system, a wait status (waitpid(2)) or the
    kind of a place. `address` and
    `method_table` are those of an exception object.
    """

    kind: EventKind
    tid: int = 0
    own_tid: int = 0
    """The id that the process itself knows the thread by, in its own pid namespace."""
    number: int = 0
    address: int = 0
    method_table: int = 0
    type: str = ""
    message: str = ""
    inner: Sequence[tuple[str, str]] = ()
    """Types and messages."""


class Watched(NamedTuple):
    """What a watcher tells besides exceptions."""

    exits: bool = False
    """Hold the process when it is about to end."""
    crashes: bool = False
    """Hold threads at signals that nobody catches."""
    threads: bool = False
    """Tell of each that begins and ends."""
    interrupts: bool = False
    """Keep the terminal's Ctrl+C from the process."""
    output: bool = False
    """Tell debug output."""


class Verdict(enum.IntEnum):
    """Whether exceptions of one type count."""

    DISMISSED = 0
    MATCHES = 1
    BY_TEXT = 2


class Rule(NamedTuple):
    """What the exceptions of a type mean; offsets are bytes in an object, 0 where not known."""

    method_table: int
    name: str
    message_offset: int = 0
    inner_offset: int = 0
    slot: int = 0
    """Address at which the thread that was asked for keeps the handle of what it threw last."""
    verdict: Verdict = Verdict.DISMISSED


@dataclass(frozen=True, slots=True)
class TextFilter:
    """Which texts count: those with one of `texts` in them, and none of `excluded`.

    `*` and `?` stand for any characters and any one, upper and lower case are the same, all else
    is literal.
    """

    texts: Sequence[str] = ()
    excluded: Sequence[str] = ()

    def matches(self, text: str) -> bool:
        """Whether a text has what must be in it, and nothing of what must not."""
        return (
            not self.texts or any(matches(f"*{wanted}*", text) for wanted in self.texts)
        ) and not any(matches(f"*{unwanted}*", text) for unwanted in self.excluded)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text is as the pattern says, in which only * and ? are special."""
    return _compiled(pattern).fullmatch(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")), re.IGNORECASE)


THROW, RETHROW, EVERY_THROW, RANGE_CHECK = 0, 1, 2, 4
"""Kinds of places: the helpers for `throw` and for `throw;`, one that every throw passes, and the
helper for an index out of range, before there is an object."""


class Watcher(Protocol):
    """Tells what happens in one target, and holds it at the moments that count."""

    @property
    def needs_places(self) -> bool:
        """Whether it sees exceptions only at addresses that it is told."""
        ...

    @property
    def tells_modules(self) -> bool:
        """Whether it tells of images that come and go."""
        ...

    @property
    def advice(self) -> str:
        """What those who wait for throws should know before; "" for nothing."""
        ...

    def wait(self, timeout_s: float | None) -> WatchEvent | None:
        """The next event; None after so many seconds, or when `wake()` was called."""
        ...

    def wake(self) -> None:
        """End a wait; any thread may."""
        ...

    def follow(self, target: LiveTarget) -> None:
        """Hold the program that took the place of the one before."""
        ...

    def resume(self) -> None:
        """Let the thread of the last event that holds one run on."""
        ...

    def watch_start(self) -> bool | None:
        """Hold a program that begins before its runtime runs managed code; whether it is there now,
        None where it cannot be held.
        """
        ...

    def watch_exit(self) -> bool:
        """Hold the process as soon as it is about to end; False where it is too early for that."""
        ...

    def watch_exceptions(
        self,
        places: Mapping[int, int],
        *,
        show_all: bool,
        texts: TextFilter,
    ) -> None:
        """Tell exceptions thrown at `places`, addresses by kind, and at no others.

        Raises:
            CaptureError: the system lets us watch no address.
        """
        ...

    def add_rule(self, rule: Rule) -> None:
        """Say what the exceptions of a type mean, and let those that wait for it go on."""
        ...

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the process at debug output that matches."""
        ...

    def rest(self, duration_s: float) -> None:
        """Let exceptions where they are thrown, and debug output, count no more for so long."""
        ...

    def close(self) -> None:
        """Let the target go; it runs on."""
        ...


class LaunchedProcess(Protocol):
    """A program that we started; it is not ended with us."""

    @property
    def pid(self) -> int: ...

    def go(self) -> None:
        """Let it begin."""
        ...

    def give_up(self) -> None:
        """End it before it has begun."""
        ...

    def wait(self) -> int:
        """The exit code, when it has ended: 128 and the signal for one that was killed."""
        ...

    def leave(self) -> None:
        """Have it outlive us, who end now."""
        ...
