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
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import CaptureError, MemoryFaultError, TargetExitedError
from ...formats.elfimage import lookup_symbol, read_image
from ...plan import CaptureWarning
from ...target import LiveTarget
from ...watching import (
    RANGE_CHECK,
    RETHROW,
    THROW,
    EventKind,
    Rule,
    TextFilter,
    Watched,
    WatchEvent,
)
from . import access, libc
from .connection import Connection, as_words, event_of, rule_line
from .process import RIP, RSP, LinuxProcess

_LOG = logging.getLogger(__name__)

OUTPUT_KIND, STAGE_KIND, EXIT_KIND = 5, 6, 9
"""The kinds of the guardian's breakpoints at .NET's call of syslog(3), at what a program passes as
it begins, and at exit(3)."""

_C_LIBRARIES = ("libc.so", "libc-")
_LOADED = (("ld-linux", "ld-musl"), "_dl_debug_state")
"""What the dynamic linker calls when it has mapped libraries: r_brk of link.h."""
_RUNS = (("libcoreclr.so",), "coreclr_execute_assembly", "coreclr_create_delegate")
"""What hosts call to run a program, or code of their own: https://learn.microsoft.com/dotnet/core/tutorials/netcore-hosting"""
_SYSLOG = (("libSystem.Native.so",), "SystemNative_SysLog")
"""What System.Diagnostics.DebugProvider calls without a debugger: DebugProvider.Unix.cs."""
_HELPERS = (THROW, RETHROW, RANGE_CHECK)
_HOLDING = {
    EventKind.EXCEPTION,
    EventKind.SIGNAL,
    EventKind.EXIT,
    EventKind.EXEC,
    EventKind.OUTPUT,
    EventKind.STAGE,
}

_REGSETS = (libc.NT_PRSTATUS, libc.NT_FPREGSET, libc.NT_X86_XSTATE)


class NoBreakpointsError(CaptureError):
    """The system lets us watch no address."""


class Guardian:
    """Watches a process, and holds its threads whenever `LinuxProcess.stopped()` asks for it."""

    advice = "each exception takes 50 to 95 us more"

    def __init__(self, command: Sequence[str | Path]) -> None:
        """Start the process."""
        self.signals: dict[int, int] = {}
        """tid of every held thread: the signal that it is about to take, else 0."""
        self.warnings: list[CaptureWarning] = []
        self.first: int | None = None
        """The thread of the last event."""
        self._events: deque[WatchEvent] = deque()
        self._registers: dict[int, dict[int, bytes]] = {}
        self._infos: dict[int, bytes] = {}
        self._pid = 0
        self._target: LinuxProcess | None = None
        self._at_call = False
        self._ended = False
        self._kinds: dict[int, int] = {}  # of breakpoints by their addresses
        self._wants_output = False
        self._woken, self._waker = socket.socketpair()  # they know when they are closed
        self._waker.setblocking(False)
        try:
            self._connection = Connection(
                command,
                self._take,
                gone="the guardian was ended; the kernel let the process go",
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
            words = ["seize", str(process.pid), *(f"{flag:d}" for flag in flags)]
            self._connection.ask(" ".join(words))
        except OSError as err:
            if err.errno == errno.EPERM:
                raise access.denied(process.pid, process.status) from None
            if err.errno == errno.ESRCH:
                raise TargetExitedError(f"process {process.pid} ended", pid=process.pid) from None
            raise
        self.follow(process)

    def follow(self, target: LiveTarget) -> None:
        """Hold the program that took the place of the one before."""
        assert isinstance(target, LinuxProcess)
        self._target = target
        self._kinds = {}
        target.keeper = self

    def wait(self, timeout_s: float | None, others: Sequence[Connection] = ()) -> WatchEvent | None:
        """The next event; None after so many seconds, when `wake()` was called, or others speak."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            sources: list[Connection | socket.socket] = [self._connection, self._woken, *others]
            ready, _, _ = select.select(sources, [], [], left)
            if self._woken in ready:
                self._woken.recv(4096)
            if self._connection not in ready or self._woken in ready:
                return None
            self._connection.look()
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
            self._waker.send(b"!")

    def resume(self) -> None:
        """Let the thread of the last event that holds one run on."""
        self.first = None
        self._connection.send("resume")

    def watch_start(self) -> bool | None:
        """Hold a program that begins as it loads libraries, and, once the runtime is one of them,
        before it runs managed code; whether that is where it is held now, None where no
        breakpoint can be had.
        """
        assert self._target
        watched = {at for at, kind in self._kinds.items() if kind == STAGE_KIND}
        runs = _functions(self._target, *_RUNS)
        if runs and watched == runs:
            return True
        places = runs or watched or _functions(self._target, *_LOADED)
        if watched != places:
            others = {at: kind for at, kind in self._kinds.items() if kind != STAGE_KIND}
            try:
                self._set_breakpoints(others | dict.fromkeys(places, STAGE_KIND))
            except OSError as err:
                _LOG.debug("no breakpoint as the program begins: %s", err)
                return None
        return False

    def watch_exit(self) -> bool:
        """Hold the process at libc's exit(3); False where there is no libc yet.

        Where no breakpoint can be had its end is seen in the kernel, as that by a signal is: all
        memory is there, but the runtime has put some of its things away.
        """
        assert self._target
        places = _functions(self._target, _C_LIBRARIES, "exit")
        if not places:
            return False
        try:
            self._set_breakpoints(self._kinds | dict.fromkeys(places, EXIT_KIND))
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
            NoBreakpointsError: the system lets us watch no address.
        """
        (reason,) = self._connection.ask(" ".join(["filter", f"{show_all:d}", *as_words(texts)]))
        _LOG.debug(
            "types that do not count are dismissed by %s",
            f"the guardian (BPF: {os.strerror(int(reason))})" if int(reason) else "the kernel",
        )
        try:
            self._set_throw_places(places)
        except OSError as err:
            raise _refused(err) from None

    def add_rule(self, rule: Rule) -> None:
        """Say what the exceptions of a type mean, and let those that wait for it go on."""
        self._connection.send(rule_line(rule))

    def watch_calls(self) -> None:
        """Hold a program that begins where its runtime takes a debugger, until `begin`."""
        self._connection.send("calls")

    def begin(self) -> None:
        """Let a program run on that `watch_calls` holds."""
        self.first = None
        self._connection.send("begin")

    def tells_end(self) -> bool:
        """Whether the next events tell that the process ends."""
        while select.select([self._connection], [], [], 0)[0]:
            self._connection.look()
        return any(event.kind in (EventKind.EXIT, EventKind.ENDED) for event in self._events)

    def be_debugged(self) -> None:
        """End the process where a stack overflow would hang it that has a debugger."""
        self._connection.send("debugged")

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the thread that puts it out, as `watch_exceptions` is told where .NET runs."""
        self._connection.send(" ".join(["output", *as_words(texts)]))

    def rest(self, duration_s: float) -> None:
        """Let exceptions where they are thrown, and debug output, count no more for so long."""
        self._connection.send(f"rest {duration_s * 1000:.0f}")

    def _set_throw_places(self, places: Mapping[int, int]) -> None:
        """Watch these and what else is wanted; debug output where the processor has room for it.

        Raises:
            OSError: no breakpoint can be had.
        """
        assert self._target
        wanted = {at: kind for at, kind in self._kinds.items() if kind == EXIT_KIND}
        wanted |= {at: kind for kind, at in places.items()}
        outputs = _functions(self._target, *_SYSLOG) if self._wants_output else ()
        try:
            self._set_breakpoints(wanted | dict.fromkeys(outputs, OUTPUT_KIND))
        except OSError as err:
            if not outputs or err.errno != errno.ENOSPC:  # perf_event_open(2): all four are in use
                raise
            _LOG.warning("debug output is not seen: the processor has no breakpoint left for it")
            self._wants_output = False
            self._set_breakpoints(wanted)

    def _set_breakpoints(self, kinds: Mapping[int, int]) -> None:
        os.close(libc.open_breakpoint())  # where we may have none, no thread is to be told of one
        try:
            self._ask_breakpoints(kinds)
        except OSError:
            self._ask_breakpoints(self._kinds)  # in threads that are yet to begin, too
            raise
        self._kinds = dict(kinds)

    def _ask_breakpoints(self, kinds: Mapping[int, int]) -> None:
        where = [f"{kind}:{address:x}" for address, kind in kinds.items()]
        self._connection.ask(" ".join(["breakpoints", *where]))

    def stop(self) -> None:
        """Hold every thread; see `Tracer.stop`.

        Raises:
            TargetExitedError: the process ended meanwhile.
        """
        self.signals.clear()
        self._registers.clear()
        self._infos.clear()
        self._connection.ask("stop")
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
            self._connection.ask("release")

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
            self._connection.detach()
        finally:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._woken.close()
        self._waker.close()

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
        self._events.append(event_of(name, words))


def breakpoints_refused() -> NoBreakpointsError | None:
    """Why we may have no breakpoint; None where we may."""
    try:
        os.close(libc.open_breakpoint())
    except OSError as err:
        return _refused(err)
    return None


def _refused(err: OSError) -> NoBreakpointsError:
    return NoBreakpointsError(
        f"no hardware breakpoint can be set: {os.strerror(err.errno or 0)}",
        stage="watch",
        hint="perf_event_open(2) takes kernel.perf_event_paranoid at most 2 or "
        "CAP_PERFMON, and a seccomp profile that allows it (Docker's does not)",
    )


def _functions(process: LinuxProcess, libraries: tuple[str, ...], *names: str) -> set[int]:
    """Where functions of a library are, which has a name that begins so."""
    for module in process.modules():
        if os.path.basename(module.path).startswith(libraries):
            with contextlib.suppress(MemoryFaultError):
                image = read_image(process.memory.read, module.base)
                found = {lookup_symbol(image, name) for name in names} if image else ()
                return {address for address in found if address}
    return set()
