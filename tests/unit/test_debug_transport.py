"""What is said to a runtime whose debugger is gone, by a stand-in for it at real FIFOs."""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidumper.errors import AlreadyTracedError, CaptureError, UnsupportedTargetError
from tests.support import gates

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.platforms.linux import debugtransport
from minidumper.platforms.linux.debugtransport import check_version, is_left, rescue

# As in dbgtransportsession.h and dbgipcevents.h of dotnet/runtime.
REQUEST, ACCEPT, REJECT, RESYNC, CLOSE, EVENT = range(6)
SYNC_COMPLETE, ASYNC_BREAK, DETACH = 0x102, 0x200, 0x22F
DEADLINE_S = 20.0


class Runtime(threading.Thread):
    """Plays one session after another, and keeps what was said in each."""

    def __init__(self, folder: Path, *sessions: Callable[[Runtime], None]) -> None:
        super().__init__(daemon=True)
        self.inward, self.outward = folder / "x-in", folder / "x-out"
        self.said: list[list[tuple[int, int]]] = []
        self._sessions = sessions
        self._make()
        self.start()

    def run(self) -> None:
        for session in self._sessions:
            self._from = os.open(self.inward, os.O_RDONLY)
            self._to = os.open(self.outward, os.O_WRONLY)
            self.said.append([])
            session(self)
            while (heard := self.hear()) != (-1, 0):
                if heard[0] == CLOSE:
                    self._end()
            os.close(self._from)
            os.close(self._to)

    def _make(self) -> None:
        os.mkfifo(self.inward)
        os.mkfifo(self.outward)

    def _end(self) -> None:
        """As a thread throws just then: it must be heard, or there will be no other session."""
        self.say(EVENT, 0x100)
        self.inward.unlink()
        self.outward.unlink()
        self._make()

    def hear(self) -> tuple[int, int]:
        """The kind of a message and of its event; -1 at the end."""
        header = os.read(self._from, 48)
        if not header:
            return -1, 0
        kind, size, _, _, last_seen, _, _, event = struct.unpack_from("<8I", header)
        body = os.read(self._from, size) if size else b""
        if kind == EVENT:
            assert struct.unpack_from("<QI", body) == (0, event)
        heard = kind, event if kind == EVENT else last_seen
        if kind != CLOSE:
            self.said[-1].append(heard)
        return heard

    def say(self, kind: int, event: int = 0) -> None:
        body = bytes(48) if kind == EVENT else b""
        values = (kind, len(body), 7, 0, 41, 0, 0, event)
        os.write(self._to, struct.pack("<8I16x", *values) + body)


def left(runtime: Runtime) -> None:
    """The session of a debugger that died."""
    runtime.say(RESYNC)
    while runtime.hear() != (EVENT, DETACH):
        pass
    runtime.say(EVENT, DETACH)


def running(runtime: Runtime) -> None:
    """No session, and a process that runs."""
    assert runtime.hear()[0] == REQUEST
    runtime.say(ACCEPT)
    assert runtime.hear() == (EVENT, ASYNC_BREAK)
    runtime.say(EVENT, SYNC_COMPLETE)
    assert runtime.hear() == (EVENT, DETACH)
    runtime.say(EVENT, DETACH)


def late(runtime: Runtime) -> None:
    """No session, and a thread that reports an event to nobody."""
    assert runtime.hear()[0] == REQUEST
    runtime.say(ACCEPT)
    runtime.say(EVENT, 0x100)
    runtime.say(EVENT, SYNC_COMPLETE)
    assert runtime.hear() == (EVENT, DETACH)
    runtime.say(EVENT, DETACH)


def slow(runtime: Runtime) -> None:
    """A session that is left, and told too late."""
    assert runtime.hear()[0] == REQUEST
    runtime.say(REJECT)


def strange(runtime: Runtime) -> None:
    """Another runtime."""
    runtime.say(CLOSE)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Runtime]]:
    """Has a runtime play sessions."""
    played: list[Runtime] = []

    def begin(*sessions: Callable[[Runtime], None]) -> Runtime:
        played.append(Runtime(tmp_path, *sessions))
        monkeypatch.setattr(debugtransport, "fifos", lambda pid: [played[0].inward])
        monkeypatch.setattr(debugtransport, "_connections", lambda pid: [" (deleted)"])
        return played[0]

    yield begin
    played[0].join(DEADLINE_S)
    assert not played[0].is_alive()


def test_the_session_of_a_dead_debugger_is_taken_over(play: Callable[..., Runtime]) -> None:
    runtime = play(left, running)
    assert rescue(1) == 1
    assert runtime.said[0] == [(RESYNC, 0xFFFFFFFF), (EVENT, ASYNC_BREAK), (EVENT, DETACH)]


@pytest.mark.parametrize("session", [late, slow])
def test_it_goes_on_until_the_process_was_found_running(
    play: Callable[..., Runtime], session: Callable[[Runtime], None]
) -> None:
    play(session, session, running)
    assert rescue(1) == 2


def test_a_process_that_runs_is_not_disturbed(play: Callable[..., Runtime]) -> None:
    play(running)
    assert rescue(1) == 0


def test_another_runtime_is_told(play: Callable[..., Runtime]) -> None:
    play(strange)
    with pytest.raises(CaptureError, match="does not speak as"):
        rescue(1)


def test_to_look_changes_nothing(play: Callable[..., Runtime]) -> None:
    runtime = play(lambda runtime: runtime.say(RESYNC))
    assert is_left(1)
    runtime.join(DEADLINE_S)
    assert runtime.said == [[]]


def test_who_never_had_a_debugger_is_not_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugtransport, "_Session", None)
    assert not is_left(os.getpid())


def test_a_debugger_that_lives_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debugtransport, "_LISTEN_S", 0.0)
    path = tmp_path / "clr-debug-pipe-1-2-in"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(AlreadyTracedError):
            rescue(os.getpid())
    finally:
        os.close(descriptor)


def test_a_runtime_that_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugtransport, "_LISTEN_S", 0.0)
    with pytest.raises(CaptureError, match="waits for no debugger"):
        rescue(os.getpid())


@pytest.mark.parametrize("version", ["7.0.1", "11.0.0", "3.1.23", ""])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(UnsupportedTargetError):
        check_version(version)
