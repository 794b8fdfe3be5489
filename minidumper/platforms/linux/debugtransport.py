"""The runtime's debugger transport: frees a process whose debugger is gone, or let it go too early.

A .NET debugger talks to the runtime through two FIFOs. When it dies the runtime keeps its session:
the process stays stopped, or stops at its next exception, for ever. A clean detach can end so, too,
as a thread that was about to report an event does so afterwards, with nobody there.

The runtime asks no session for an identity, so we take it over, or begin one, and detach. It keeps
both descriptors of every connection (seen of .NET 10), so none is made without need.

The messages are those of .NET 8, 9 and 10: dbgtransportsession.h and dbgipcevents.h of
dotnet/runtime, src/coreclr/debug/inc. A header has 48 bytes; of an event's body 48 are enough.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from ...errors import (
    AccessDeniedError,
    AlreadyTracedError,
    CaptureError,
    MiniDumperError,
    TargetNotFoundError,
    UnsupportedTargetError,
)
from ..gates import Gate, gate
from . import procfs

MAJORS = ("8", "9", "10")
"""Versions of .NET whose transport is known."""

# MessageType
_REQUEST, _ACCEPT, _REJECT, _RESYNC, _CLOSE, _EVENT = range(6)
# DebuggerIPCEventType
_SYNC_COMPLETE, _ASYNC_BREAK, _DETACH = 0x102, 0x200, 0x22F

_HEADER = struct.Struct("<6I2I16x")  # type, size, id, reply to, last seen, 0, a union
_BODY = struct.Struct("<QI32sI")  # 0, event type, ..., whether a reply is wanted
_GONE = " (deleted)"  # proc_pid_fd(5)
_FIFO = "clr-debug-pipe-"
_BEGAN = 19  # starttime, of what follows the name; proc_pid_stat(5)
_SEEN_ALL = 0xFFFF_FFFF
_VERSION = 2  # of the transport

_LISTEN_S = 2.0  # until the runtime has seen that a client is gone, and made its FIFOs anew
_FIRST_S = 0.05  # a message that comes by itself is there by then
_SYNC_S = 0.3  # a process that runs has stopped by then
_ANSWER_S = 1.0
_POLL_S = 0.0005
_AGAIN_S = 0.02
_ROUNDS = 20  # late events come one at a time, at most one a thread


class Message(NamedTuple):
    """A message of the runtime; `event` is 0 unless it is one."""

    kind: int
    last_seen: int
    event: int


def rescue(pid: int) -> int:
    """Let a process run that a debugger left stopped; how often it was found so.

    Takes about 0.1 s where nothing is wrong, and half a second where something is.

    Raises:
        AccessDeniedError: it belongs to someone else.
        AlreadyTracedError: a debugger holds it that lives.
        CaptureError: the runtime does not listen, or speaks otherwise.
    """
    for found in range(_ROUNDS):
        try:
            with _Session(pid) as session:
                if not session.free():
                    return found
        except BrokenPipeError:  # it ends just now
            return found
        time.sleep(_AGAIN_S)
    raise CaptureError(f"process {pid} stops again and again", stage="rescue")


def check_version(version: str) -> None:
    """Refuse a .NET whose transport is not known.

    Raises:
        UnsupportedTargetError: it is older than 8, newer than 10, or not known.
    """
    if version.partition(".")[0] not in MAJORS:
        raise UnsupportedTargetError(
            f".NET {version or 'of unknown version'}: how a debugger speaks to it is known for 8, "
            "9 and 10 alone"
        )


def debugger_gates(pid: int, version: str) -> Iterator[Gate]:
    """Whether a debugger that died has left a process stopped."""
    fixes = dict.fromkeys(("shell", "docker", "kubernetes"), f"minidumper doctor --rescue {pid}")
    try:
        check_version(version)
        left = is_left(pid)
    except AlreadyTracedError as err:
        yield gate("debugger", True, str(err), blocks=False)
    except MiniDumperError as err:
        yield gate("debugger", None, f"not known: {err}", blocks=False)
    else:
        text = "one died and left the process stopped" if left else "no .NET debugger holds it"
        yield gate("debugger", not left, text, fixes, blocks=False)


def had_debugger(pid: int) -> bool:
    """Whether a process has, or had a debugger.

    Raises:
        AccessDeniedError, TargetNotFoundError: it cannot be told.
    """
    return bool(_connections(pid))


def is_left(pid: int) -> bool:
    """Whether a debugger died on a process and left its session.

    Raises:
        AccessDeniedError, AlreadyTracedError, CaptureError: as `rescue`.
    """
    if not had_debugger(pid):
        return False  # never was there one
    with _Session(pid, _SYNC_S) as session:
        return session.is_left


class _Session:
    """A connection to the runtime's end; use it in `with`."""

    def __init__(self, pid: int, first_s: float = _FIRST_S) -> None:
        self._pid = pid
        self._number = 1
        with ExitStack() as stack:
            self._to, self._from = self._connected()
            stack.callback(os.close, self._to)
            stack.callback(os.close, self._from)
            self._first = self._receive(first_s)
            self._stack = stack.pop_all()

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_left(self) -> bool:
        """Whether the runtime wants to go on with the session of a debugger that is gone."""
        return self._first is not None and self._first.kind == _RESYNC

    def free(self) -> bool:
        """Detach from the process; False where it was running."""
        if self.is_left:
            self._take_over()
            stopped = True
        elif self._first is None:
            answer = self._request()
            if answer.kind != _ACCEPT:  # a session is left, it was only slow to say so: once more
                return True
            stopped = self._is_stopped()
        else:
            raise self._unknown(self._first)
        self._send_event(_DETACH, reply=True)
        self._await_event(_ANSWER_S, _DETACH)
        self._close()
        return stopped

    def _close(self) -> None:
        """End the session, and wait until the runtime has, which takes its FIFOs away then.

        Were our ends closed before, a thread that tells an event just then would fail, and the
        runtime would give up its own for good (MT_SessionClose, dbgtransportsession.cpp).
        """
        self._send(_header(_CLOSE))
        deadline = time.monotonic() + _ANSWER_S
        while os.fstat(self._from).st_nlink and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _take_over(self) -> None:
        """Go on with the session of a debugger that is gone, and stop the process."""
        assert self._first
        self._send(_header(_RESYNC, last_seen=_SEEN_ALL))
        self._number = self._first.last_seen + 1
        self._send_event(_ASYNC_BREAK)
        self._await_event(_SYNC_S, _SYNC_COMPLETE)  # none comes where it is stopped already

    def _request(self) -> Message:
        """The answer to the wish for a session."""
        self._send(_header(_REQUEST, size=16, union=(_VERSION, 0)) + os.urandom(16))
        answer = self._receive(_ANSWER_S)
        if answer is None or answer.kind not in (_ACCEPT, _REJECT, _RESYNC):
            raise self._unknown(answer)
        return answer

    def _is_stopped(self) -> bool:
        """Whether the process was stopped; it is afterwards."""
        late = self._receive(_FIRST_S) is not None  # what nobody has asked for
        if not late:
            self._send_event(_ASYNC_BREAK)
        return not self._await_event(_SYNC_S, _SYNC_COMPLETE) or late

    def _unknown(self, message: Message | None) -> CaptureError:
        said = "says nothing" if message is None else f"says {message.kind}"
        return CaptureError(
            f"the runtime of process {self._pid} does not speak as .NET 8 to 10 do: it {said}",
            stage="rescue",
        )

    def _connected(self) -> tuple[int, int]:
        """Both FIFOs, once the runtime waits at them.

        A second client would end the session of the first for good, so as long as one is connected
        it is waited for: one that is gone, ourselves among them, the runtime soon sees to be gone.

        Raises:
            TargetNotFoundError: the process has ended.
            AlreadyTracedError: a debugger holds it.
            CaptureError: it waits for none.
        """
        deadline = time.monotonic() + _LISTEN_S
        while True:
            held = "" in _connections(self._pid)
            pipes = None if held else self._opened()
            if pipes:
                return pipes
            if time.monotonic() >= deadline:
                break
            if procfs.program_of(self._pid) is None:
                raise _gone(self._pid)
            time.sleep(_POLL_S)
        if held:
            raise AlreadyTracedError(
                f"a debugger holds process {self._pid}",
                tracer_pid=0,
                pid=self._pid,
                hint="end that debugger",
            )
        raise CaptureError(
            f"the runtime of process {self._pid} waits for no debugger",
            stage="rescue",
            hint="it has none, or DOTNET_EnableDiagnostics is 0",
        )

    def _opened(self) -> tuple[int, int] | None:
        """Both FIFOs; None where the runtime does not wait at them."""
        for path in fifos(self._pid):
            try:
                to = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except PermissionError as err:
                raise _denied(self._pid) from err
            except OSError:  # ENXIO: nobody waits at it; fifo(7)
                continue
            try:
                back = path.with_name(path.name.removesuffix("in") + "out")
                return to, os.open(back, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except BaseException:
                os.close(to)
                raise
        return None

    def _send(self, data: bytes) -> None:
        os.write(self._to, data)

    def _send_event(self, event: int, *, reply: bool = False) -> None:
        body = _BODY.pack(0, event, b"", reply)
        self._send(_header(_EVENT, number=self._number, size=len(body), union=(0, event)) + body)
        self._number += 1

    def _receive(self, timeout_s: float) -> Message | None:
        """The next message; None where none comes."""
        data = self._read(_HEADER.size, timeout_s)
        if data is None:
            return None
        kind, size, _, _, last_seen, _, _, event = _HEADER.unpack(data)
        self._read(size, _ANSWER_S)
        return Message(kind, last_seen, event if kind == _EVENT else 0)

    def _read(self, size: int, timeout_s: float) -> bytes | None:
        deadline = time.monotonic() + timeout_s
        data = b""
        while len(data) < size:
            with suppress(BlockingIOError):
                data += os.read(self._from, size - len(data))
            if len(data) < size:
                if time.monotonic() > deadline:
                    return None
                time.sleep(_POLL_S)
        return data

    def _await_event(self, timeout_s: float, event: int) -> bool:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            message = self._receive(left)
            if message and message.event == event:
                return True
        return False


def _connections(pid: int) -> list[str]:
    """What the process has open of FIFOs: "" for those that there are, else " (deleted)".

    While the runtime waits for a debugger it has none open, but those of former ones.
    """
    folder = f"/proc/{pid}/fd"
    found = []
    try:
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                link = os.readlink(f"{folder}/{name}")
                if _FIFO in link:
                    found.append(link.partition(_GONE)[1])
        return found
    except FileNotFoundError:
        raise _gone(pid) from None
    except PermissionError as err:
        raise _denied(pid) from err


def _gone(pid: int) -> TargetNotFoundError:
    return TargetNotFoundError(f"there is no process {pid}", pid=pid)


def _denied(pid: int) -> AccessDeniedError:
    return AccessDeniedError(
        f"what the debugger of process {pid} has left is not ours to free",
        gate="user",
        pid=pid,
        hint="run minidumper as the user of the process, or as root",
    )


def fifos(pid: int) -> list[Path]:
    """Those that a debugger writes to, as the runtime of process `pid` has made them.

    Their names have the pid that the process has in its own namespace, and when it began: those of
    a former process of that pid, which was killed, may still be there.
    https://github.com/dotnet/runtime/blob/main/src/coreclr/pal/src/debug/debug.cpp
    """
    proc = Path(f"/proc/{pid}")
    try:
        own = procfs.parse_status((proc / "status").read_text("utf-8", "replace")).namespace_pid
        environment = (proc / "environ").read_bytes().split(b"\0")
        began = (proc / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[_BEGAN]
    except OSError:
        return []
    folders = [
        v for name, _, v in (item.partition(b"=") for item in environment) if name == b"TMPDIR"
    ]
    folder = os.fsdecode(folders[0] if folders else b"/tmp").lstrip("/")
    return sorted((proc / "root" / folder).glob(f"{_FIFO}{own}-{began}-in"))


def _header(
    kind: int,
    *,
    number: int = 0,
    size: int = 0,
    last_seen: int = 0,
    union: tuple[int, int] = (0, 0),
) -> bytes:
    return _HEADER.pack(kind, size, number, 0, last_seen, 0, *union)
