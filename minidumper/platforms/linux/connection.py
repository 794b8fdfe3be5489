"""Lines of words to and from a helper process: the guardian, or the debugger, of a target."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import CaptureError, StopTimeoutError, TargetExitedError
from ...frozen import library_variables
from ...watching import MANAGED_CODE, EventKind, Rule, TextFilter, WatchEvent

_LOG = logging.getLogger(__name__)

ANSWER_S = 30.0
"""Seconds for one answer; a stop may take five, on a quiet machine it is less than 0.01."""

_BUFFER = 1 << 18
_LOOK_S = 0.1
"""Seconds between two looks whether to give up."""


class Connection:
    """One helper process, in a session of its own; it lets the target go when this ends."""

    def __init__(
        self,
        command: Sequence[str | Path],
        take: Callable[[str], None],
        *,
        gone: str,
        variables: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
    ) -> None:
        """Start it; `command` gets the number of the connection as last word.

        `take` gets the lines that are no answers, `gone` is what its death is told as.
        """
        self._take = take
        self._gone = gone
        self._rest = b""
        self._socket, theirs = socket.socketpair()
        try:
            with theirs, _child_signals_blocked():
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Nothing of the caller's: its variables can be the target's own.
                    env={
                        "DOTNET_EnableDiagnostics": "0",
                        **library_variables(),
                        **(variables or {}),
                    },
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl+C is ours to take
                    user=user[0] if user else None,
                    group=user[1] if user else None,
                    extra_groups=[] if user else None,
                )
        except BaseException:
            self._socket.close()
            raise

    @property
    def pid(self) -> int:
        """That of the helper."""
        return self._process.pid

    def fileno(self) -> int:
        """What can be read when it has told something."""
        return self._socket.fileno()

    def ask(
        self,
        command: str,
        timeout_s: float = ANSWER_S,
        *,
        has_ended: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Send a command, and take what is told until its answer; the words of that.

        Ctrl+C can leave an answer unread: each says to which command it belongs.

        Raises:
            OSError: what the helper failed with.
            CaptureError: it is gone, or does not answer.
            TargetExitedError: `has_ended`, so nobody would.
        """
        self.send(command)
        name = command.split()[0]
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self._process.kill()
                raise StopTimeoutError(
                    f"the guardian did not {name} within {timeout_s:g} s",
                    stage="watch",
                )
            if not select.select([self._socket], [], [], min(left, _LOOK_S))[0]:
                if has_ended():
                    raise TargetExitedError("the process ended meanwhile")
                continue
            answer = None
            for line in self._receive():
                result, *words = line.split()
                if result not in ("ok", "failed"):
                    self._take(line)
                elif words[0] == name:
                    answer = result, words[1:]
            if answer is None:
                continue
            result, words = answer
            if result == "failed":
                raise OSError(int(words[0]), os.strerror(int(words[0])))
            return words

    def send(self, command: str) -> None:
        """Send a command that has no answer.

        Raises:
            CaptureError: the helper is gone.
        """
        try:
            self._socket.sendall(f"{command}\n".encode())
        except OSError as err:
            raise self._error() from err

    def look(self) -> None:
        """Take what is there, or comes next.

        Raises:
            CaptureError: the helper is gone.
        """
        for line in self._receive():
            self._take(line)

    def detach(self, timeout_s: float = ANSWER_S) -> None:
        """Have the helper let the target go and end; one that does not is ended."""
        try:
            (seen,) = self.ask("detach", timeout_s)
            if seen != "0":
                _LOG.info("exceptions thrown in all: %s", seen)
            self.close(timeout_s)
        except (OSError, CaptureError) as err:
            _LOG.debug("%s", err)
            self.close()

    def close(self, timeout_s: float = 0.0) -> None:
        """End the helper, after so many seconds in which it may end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _receive(self) -> Iterator[str]:
        try:
            data = self._socket.recv(_BUFFER)
        except OSError as err:
            raise self._error() from err
        if not data:
            raise self._error()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return (line.decode("ascii") for line in lines)

    def _error(self) -> CaptureError:
        return CaptureError(self._gone, stage="watch")


def as_word(text: str) -> str:
    """A text as it travels."""
    return text.encode("utf-8", "surrogateescape").hex() or "-"


def as_words(texts: TextFilter) -> list[str]:
    """What has to, and what must not be in a text."""
    wanted = [f"+{as_word(text)}" for text in texts.texts]
    return wanted + [f"-{as_word(text)}" for text in texts.excluded]


def rule_line(rule: Rule) -> str:
    """The command that tells a rule."""
    offsets = f"{rule.message_offset} {rule.inner_offset}"
    return f"rule {rule.method_table:x} {rule.verdict:d} {offsets} {as_word(rule.name)}"


def event_of(name: str, words: Sequence[str]) -> WatchEvent:
    """What a line tells."""
    return _EVENTS[name](EventKind(name), words)


def _text(word: str) -> str:
    return bytes.fromhex(word.replace("-", "")).decode("utf-8", "replace")


_EVENTS: Mapping[str, Callable[[EventKind, Sequence[str]], WatchEvent]] = {
    "exception": lambda kind, w: WatchEvent(
        kind,
        int(w[0]),
        address=int(w[1], 16),
        number=int(w[2]),
        type=_text(w[3]),
        message=_text(w[4]),
    ),
    "signal": lambda kind, w: WatchEvent(kind, int(w[0]), number=int(w[1])),
    "exit": lambda kind, w: WatchEvent(kind, int(w[0]), number=int(w[1])),
    "exec": lambda kind, w: WatchEvent(kind, int(w[0])),
    "stage": lambda kind, w: WatchEvent(kind, int(w[0])),
    "type": lambda kind, w: WatchEvent(
        kind, int(w[0]), method_table=int(w[1], 16), address=int(w[2], 16)
    ),
    "began": lambda kind, w: WatchEvent(kind, int(w[0])),
    "gone": lambda kind, w: WatchEvent(kind, int(w[0])),
    "seen": lambda kind, w: WatchEvent(
        kind,
        int(w[0]),
        type=f"{MANAGED_CODE}.{_text(w[1])}",
        message=_text(w[2]),
        inner=[(_text(w[i]), _text(w[i + 1])) for i in range(3, len(w), 2)],
    ),
    "output": lambda kind, w: WatchEvent(kind, int(w[0]), message=_text(w[1])),
    "said": lambda kind, w: WatchEvent(kind, int(w[0]), message=_text(w[1])),
    "ended": lambda kind, w: WatchEvent(kind, number=int(w[0])),
}


@contextlib.contextmanager
def _child_signals_blocked() -> Iterator[None]:
    """Have a new process inherit SIGCHLD blocked, in all of its threads: it asks a descriptor."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
