"""Our side of the guardian: the process that holds a target with ptrace(2) while we wait.

It lets the target go when its connection to us ends, however that comes about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import CaptureError, MemoryFaultError, StopTimeoutError, TargetExitedError
from ...formats.elfimage import lookup_symbol, read_image
from ...frozen import library_variables
from ...plan import CaptureWarning
from ...target import LiveTarget
from ...watching import (
    RANGE_CHECK,
    RETHROW,
    THROW,
    EventKind,
    TextFilter,
    Verdict,
    Watched,
    WatchEvent,
)
from . import access, libc
from .process import RIP, RSP, LinuxProcess

ANSWER_S = 30.0
"""Seconds for one answer; a stop may take five, on a quiet machine it is less than 0.01."""

_LOG = logging.getLogger(__name__)

OUTPUT_KIND, EXIT_KIND = 5, 9
"""The kinds of the guardian's breakpoints at .NET's call of syslog(3) and at exit(3)."""

_C_LIBRARIES = ("libc.so", "libc-")
_SYSLOG = (("libSystem.Native.so",), "SystemNative_SysLog")
"""What System.Diagnostics.DebugProvider calls without a debugger: DebugProvider.Unix.cs."""
_HELPERS = (THROW, RETHROW, RANGE_CHECK)
_HOLDING = {
    EventKind.EXCEPTION,
    EventKind.SIGNAL,
    EventKind.EXIT,
    EventKind.EXEC,
    EventKind.OUTPUT,
}

_REGSETS = (libc.NT_PRSTATUS, libc.NT_FPREGSET, libc.NT_X86_XSTATE)
_BUFFER = 1 << 18


class Guardian:
    """Watches a process, and holds its threads whenever `LinuxProcess.stopped()` asks for it."""

    needs_places = True
    tells_modules = False
    advice = "each exception takes 70 to 95 us more"

    def __init__(self, command: Sequence[str | Path]) -> None:
        """Start the process; `command` gets the number of its connection as last word."""
        self.signals: dict[int, int] = {}
        """tid of every held thread: the signal that it is about to take, else 0."""
        self.warnings: list[CaptureWarning] = []
        self.first: int | None = None
        """The thread of the last event."""
        self._events: deque[WatchEvent] = deque()
        self._registers: dict[int, dict[int, bytes]] = {}
        self._infos: dict[int, bytes] = {}
        self._rest = b""
        self._pid = 0
        self._target: LinuxProcess | None = None
        self._at_call = False
        self._ended = False
        self._places: dict[int, int] = {}
        self._wants_output = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._socket, theirs = socket.socketpair()
        try:
            with theirs, _child_signals_blocked():
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Nothing of the caller's: its variables can be the target's own.
                    env={"DOTNET_EnableDiagnostics": "0", **library_variables()},
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl+C is ours to take
                )
        except BaseException:
            self._close_descriptors()
            raise

    def seize(self, process: LinuxProcess, what: Watched) -> None:
        """Watch all threads of a process, and hold them for it from now on.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: it ended meanwhile.
        """
        self._pid = process.pid
        self._wants_output = what.output
        try:
            flags = (what.exits, what.crashes, what.threads, what.interrupts)
            self._ask(" ".join(["seize", str(process.pid), *(f"{flag:d}" for flag in flags)]))
        except OSError as err:
            if err.errno == errno.EPERM:
                raise access.denied(process.pid, process.status) from None
            raise
        self.follow(process)

    def follow(self, target: LiveTarget) -> None:
        """Hold the program that took the place of the one before."""
        assert isinstance(target, LinuxProcess)
        self._target = target
        self._places = {}
        target.keeper = self

    def wait(self, timeout_s: float | None) -> WatchEvent | None:
        """The next event; None after so many seconds, or when `wake()` was called."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._socket.fileno(), self._wake_read], [], [], left)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                return None
            if not ready:
                return None
            for line in self._receive():
                self._take(line)
        event = self._events.popleft()
        if event.kind in _HOLDING:
            self.first = event.tid
        self._at_call = event.kind is EventKind.EXCEPTION and event.number in _HELPERS
        if event.tid and self._target and event.kind is not EventKind.GONE:
            event = dataclasses.replace(event, own_tid=self._target.own_tid(event.tid))
        return event

    def wake(self) -> None:
        """End a wait; any thread may."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def resume(self) -> None:
        """Let the thread of the last event that holds one run on."""
        self.first = None
        self._send("resume")

    def watch_exit(self) -> bool:
        """Hold the process at libc's exit(3); False where there is no libc yet.

        Where no breakpoint can be had its end is seen in the kernel, as that by a signal is: all
        memory is there, but the runtime has put some of its things away.
        """
        assert self._target
        place = _function(self._target, _C_LIBRARIES, "exit")
        if place is None:
            return False
        try:
            self._set_breakpoints(self._places | {EXIT_KIND: place})
        except OSError as err:
            _LOG.debug("no breakpoint at exit: %s", err)
        return True

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
        (reason,) = self._ask(" ".join(["filter", f"{show_all:d}", *_patterns(texts)]))
        _LOG.debug(
            "types that do not count are dismissed by %s",
            f"the guardian (BPF: {os.strerror(int(reason))})" if int(reason) else "the kernel",
        )
        try:
            self._set_throw_places(places)
        except OSError as err:
            raise CaptureError(
                f"no hardware breakpoint can be set: {os.strerror(err.errno or 0)}",
                stage="watch",
                hint="perf_event_open(2) takes kernel.perf_event_paranoid at most 2 or "
                "CAP_PERFMON, and a seccomp profile that allows it (Docker's does not)",
            ) from None

    def add_rule(
        self, method_table: int, verdict: Verdict, name: str, message_offset: int, slot: int
    ) -> None:
        """Say what the exceptions of a type mean, and let those that wait for it go on.

        `message_offset` is in bytes, from the object to the pointer to its message.
        """
        self._send(f"rule {method_table:x} {verdict:d} {message_offset} {_hex(name)}")

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the thread that puts it out, as `watch_exceptions` is told where .NET runs."""
        self._send(" ".join(["output", *_patterns(texts)]))

    def _set_throw_places(self, places: Mapping[int, int]) -> None:
        """Watch these and what else is wanted; debug output where the processor has room for it.

        Raises:
            OSError: no breakpoint can be had.
        """
        assert self._target
        exits = {kind: at for kind, at in self._places.items() if kind == EXIT_KIND}
        wanted = exits | dict(places)
        output = self._wants_output and _function(self._target, *_SYSLOG)
        if not output:
            self._set_breakpoints(wanted)
            return
        try:
            self._set_breakpoints(wanted | {OUTPUT_KIND: output})
        except OSError as err:
            if err.errno != errno.ENOSPC:  # perf_event_open(2): all four are in use
                raise
            _LOG.warning("debug output is not seen: the processor has no breakpoint left for it")
            self._wants_output = False
            self._set_breakpoints(wanted)

    def _set_breakpoints(self, places: Mapping[int, int]) -> None:
        self._places = dict(places)
        where = [f"{kind}:{address:x}" for kind, address in places.items()]
        self._ask(" ".join(["breakpoints", *where]))

    def stop(self) -> None:
        """Hold every thread; see `Tracer.stop`.

        Raises:
            TargetExitedError: the process ended meanwhile.
        """
        self.signals.clear()
        self._registers.clear()
        self._infos.clear()
        self._ask("stop")
        if self._at_call and self.first in self.signals:
            self._step_back(self.first)
        if not self.signals:
            raise TargetExitedError(f"process {self._pid} ended while it was being stopped")

    def _step_back(self, tid: int) -> None:
        """Show a thread at the call of the helper that it has just entered.

        No reader can walk a stack from the first instruction of native code, where the helper has
        not yet said who called it; and there the caller's registers still are as they were.
        """
        assert self._target
        registers = bytearray(self._registers[tid][libc.NT_PRSTATUS])
        (stack,) = struct.unpack_from("<Q", registers, RSP)
        (caller,) = struct.unpack("<Q", self._target.memory.read(stack, 8))
        struct.pack_into("<Q", registers, RIP, caller - 1)  # inside the call: nothing is behind it
        struct.pack_into("<Q", registers, RSP, stack + 8)
        self._registers[tid][libc.NT_PRSTATUS] = bytes(registers)

    def release(self) -> None:
        """Let every held thread run on, but for that of the last event."""
        self.signals.clear()
        if not self._ended:
            self._ask("release")

    def regset(self, tid: int, kind: int, _max_size: int) -> bytes:
        """A register set of a held thread, in the kernel's layout.

        Raises:
            ProcessLookupError: the thread was killed while it was held.
            OSError: the processor has no such set.
        """
        if not self._registers[tid][libc.NT_PRSTATUS]:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        if not self._registers[tid][kind]:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self._registers[tid][kind]

    def siginfo(self, tid: int) -> bytes:
        """The siginfo_t of the signal that a held thread is about to take."""
        return self._infos[tid]

    def close(self) -> None:
        """Let the target go, and end the guardian."""
        try:
            seen = self._ask("detach")
            if seen != ["0"]:
                _LOG.info("exceptions thrown meanwhile: %s", *seen)
            self._process.wait(ANSWER_S)
        except (OSError, CaptureError, subprocess.TimeoutExpired):
            pass  # the kernel lets the target go
        finally:
            self._process.kill()
            self._process.wait()
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._socket.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _ask(self, command: str) -> list[str]:
        """Send a command, and take what is told until its answer; the words of that.

        Raises:
            OSError: what the guardian failed with.
            CaptureError: it is gone, or does not answer.
        """
        self._send(command)
        deadline = time.monotonic() + ANSWER_S
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                self._process.kill()
                raise StopTimeoutError(
                    f"the guardian did not {command.split()[0]} within {ANSWER_S:g} s",
                    stage="watch",
                )
            answer = None
            for line in self._receive():
                words = line.split()
                if words[0] in ("ok", "failed"):
                    answer = words
                else:
                    self._take(line)
            if answer and answer[0] == "failed":
                raise OSError(int(answer[1]), os.strerror(int(answer[1])))
            if answer:
                return answer[1:]

    def _send(self, command: str) -> None:
        try:
            self._socket.sendall(f"{command}\n".encode())
        except OSError as err:
            raise self._gone() from err

    def _receive(self) -> Iterator[str]:
        """The whole lines of what is there.

        Raises:
            CaptureError: the guardian is gone.
        """
        try:
            data = self._socket.recv(_BUFFER)
        except OSError as err:
            raise self._gone() from err
        if not data:
            raise self._gone()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return (line.decode("ascii") for line in lines)

    def _gone(self) -> CaptureError:
        return CaptureError(
            f"the guardian of process {self._pid} was ended; the kernel let the process go",
            stage="watch",
        )

    def _take(self, line: str) -> None:
        """Keep what a line tells."""
        name, *words = line.split()
        if name == "thread":
            tid = int(words[0])
            self.signals[tid] = int(words[1])
            sets = [bytes.fromhex(word.replace("-", "")) for word in words[2:]]
            self._registers[tid] = dict(zip(_REGSETS, sets, strict=False))
            self._infos[tid] = sets[-1]
            return
        if name == "blind":
            why = os.strerror(int(words[1]))
            _LOG.warning("exceptions of thread %s are not seen: %s", words[0], why)
            return
        self._ended |= name == "ended"
        self._events.append(_EVENTS[name](EventKind(name), words))


_EVENTS: Mapping[str, Callable[[EventKind, list[str]], WatchEvent]] = {
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
    "type": lambda kind, w: WatchEvent(
        kind, int(w[0]), method_table=int(w[1], 16), address=int(w[2], 16)
    ),
    "began": lambda kind, w: WatchEvent(kind, int(w[0])),
    "gone": lambda kind, w: WatchEvent(kind, int(w[0])),
    "seen": lambda kind, w: WatchEvent(kind, int(w[0]), type=_text(w[1]), message=_text(w[2])),
    "output": lambda kind, w: WatchEvent(kind, int(w[0]), message=_text(w[1])),
    "said": lambda kind, w: WatchEvent(kind, int(w[0]), message=_text(w[1])),
    "ended": lambda kind, w: WatchEvent(kind, number=int(w[0])),
}


def _function(process: LinuxProcess, libraries: tuple[str, ...], name: str) -> int | None:
    """Where a function of a library is, which has a name that begins so."""
    for module in process.modules():
        if os.path.basename(module.path).startswith(libraries):
            with contextlib.suppress(MemoryFaultError):
                image = read_image(process.memory.read, module.base)
                return lookup_symbol(image, name) if image else None
    return None


def _patterns(texts: TextFilter) -> list[str]:
    wanted = [f"+{_hex(text)}" for text in texts.texts]
    return wanted + [f"-{_hex(text)}" for text in texts.excluded]


def _hex(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").hex() or "-"


def _text(digits: str) -> str:
    return bytes.fromhex(digits.replace("-", "")).decode("utf-8", "replace")


@contextlib.contextmanager
def _child_signals_blocked() -> Iterator[None]:
    """Have a new process inherit SIGCHLD blocked, in all of its threads: it asks a descriptor."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
