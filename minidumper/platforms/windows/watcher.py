"""Watches a process as its debugger: tells of its events, and holds it at those that count."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from ...dbghelp import EXCEPTION_RECORD
from ...errors import CaptureError, MemoryFaultError
from ...formats.minidump import ExceptionInfo
from ...target import LiveTarget
from ...watching import MANAGED_CODE, EventKind, Rule, TextFilter, Verdict, Watched, WatchEvent
from . import codes, debugapi, fileapi, wine
from .debugapi import DBG_CONTINUE, DBG_EXCEPTION_NOT_HANDLED, DEBUG_EVENT
from .debugging import attach
from .debugloop import DebugLoop
from .process import WindowsProcess
from .thrown import Thrower, Thrown

_LOOK_S = 0.05
"""Seconds between two looks for `wake()`, and for Ctrl+C, which ends no wait of Windows."""
_MOST_EVENTS = 1000
"""Events that may wait for who asks for them; then the process waits."""
_MOST_INNER = 64
_NAMELESS = "?"
_PATH_SIZE = 1024


class DebugWatcher:
    """Holds a process whenever `WindowsProcess.stopped()` asks for it, too."""

    needs_places = False
    tells_modules = True
    advice = ""

    def __init__(
        self, process: WindowsProcess, what: Watched, loop: DebugLoop | None = None
    ) -> None:
        """Watch a process from now on, by the loop that launched it if one did.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: it ended meanwhile.
        """
        self.held: ExceptionInfo | None = None
        """The exception at which the process is held, without registers."""
        self._process = process
        self._what = what
        self._events: queue.Queue[WatchEvent] = queue.Queue(_MOST_EVENTS)
        self._woken = threading.Event()
        self._thrower = Thrower(process.handle)
        self._texts = TextFilter()
        self._output: TextFilter | None = None
        self._throws = self._shows = False
        self._rests_until = 0.0
        self._asked: tuple[int, Rule | None] = (0, None)  # a thread, and the answer for it
        self._notifies = False
        self._images: dict[int, str] = {}
        self._launched = loop is not None
        self._began = False  # before, the system tells of all that is there already
        self._own_threads: set[int] = set()
        self._exit: wine.ExitBreakpoint | None = None  # under Wine
        self._judges: Mapping[int, Callable[[DEBUG_EVENT], int]] = {
            debugapi.EXCEPTION_DEBUG_EVENT: self._exception,
            debugapi.CREATE_THREAD_DEBUG_EVENT: self._begun,
            debugapi.CREATE_PROCESS_DEBUG_EVENT: self._created,
            debugapi.EXIT_THREAD_DEBUG_EVENT: self._gone,
            debugapi.EXIT_PROCESS_DEBUG_EVENT: self._ended,
            debugapi.LOAD_DLL_DEBUG_EVENT: self._loaded,
            debugapi.UNLOAD_DLL_DEBUG_EVENT: self._unloaded,
            debugapi.OUTPUT_DEBUG_STRING_EVENT: self._said,
        }
        self._loop = loop or DebugLoop(self._attach, stopped=True)
        self._loop.judge = self._judge
        if loop is None:
            self._loop.release()
        process.keeper = self

    def wait(self, timeout_s: float | None) -> WatchEvent | None:
        """The next event; None after so many seconds, or when `wake()` was called.

        Raises:
            CaptureError: the process cannot be watched any longer.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._woken.is_set():
            left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
            try:
                return self._events.get(timeout=left) if left > 0 else self._events.get_nowait()
            except queue.Empty:
                if left <= 0:
                    return None
            if self._loop.error:
                raise CaptureError(
                    f"the process runs on unwatched: {self._loop.error}", stage="watch"
                ) from self._loop.error
        self._woken.clear()
        return None

    def wake(self) -> None:
        """End a wait; any thread may."""
        self._woken.set()

    def follow(self, target: LiveTarget) -> None:
        """No program takes the place of another here."""

    def resume(self) -> None:
        """Let the process run on from the last event that holds it."""
        self._loop.resume()

    @property
    def held_since(self) -> float | None:
        """When the event came that holds the process (time.monotonic); None where none does."""
        return self._loop.held_since

    def watch_start(self) -> bool | None:
        """Nothing is to be held: a debugger sees all from the first instruction on."""
        return None

    def watch_exit(self) -> bool:
        """The system tells of it."""
        return True

    def watch_exceptions(
        self, places: Mapping[int, int], *, show_all: bool, texts: TextFilter
    ) -> None:
        """Tell exceptions that are thrown, wherever."""
        self._shows = show_all
        self._texts = texts
        self._throws = True

    def add_rule(self, rule: Rule) -> None:
        """Say what the exceptions of a type mean, and let the one that waits for it go on."""
        tid, _ = self._asked
        self._asked = tid, rule
        self._thrower.learn(tid, rule)
        self._loop.resume()

    def watch_output(self, texts: TextFilter) -> None:
        """Hold the process at debug output that matches."""
        self._output = texts

    def rest(self, duration_s: float) -> None:
        """Let exceptions where they are thrown, and debug output, count no more for so long."""
        self._rests_until = time.monotonic() + duration_s

    def stop(self) -> None:
        """Hold the process; see `DebugLoop.stop`."""
        self._loop.stop()

    def release(self) -> None:
        """Let it run on, unless an event holds it."""
        self._loop.release()

    def close(self) -> None:
        """Let the process go; it runs on."""
        if self._exit:
            self._exit.remove()
        self._loop.close()
        self._process.keeper = None

    def _attach(self) -> int:
        attach(self._process.pid, self._process.handle)
        return self._process.pid

    # All that follows is for the loop's thread.

    def _judge(self, event: DEBUG_EVENT) -> int:
        judge = self._judges.get(event.dwDebugEventCode)
        return judge(event) if judge else DBG_CONTINUE

    def _tell(self, event: WatchEvent) -> None:
        while not self._loop.leaves:
            try:
                self._events.put(event, timeout=_LOOK_S)
                return
            except queue.Full:
                pass

    def _hold(self, event: WatchEvent) -> None:
        """Tell of an event, and wait until it was looked at."""
        self._tell(event)
        self._loop.hold()

    def _exception(self, event: DEBUG_EVENT) -> int:
        info, tid = event.u.Exception, event.dwThreadId
        record = info.ExceptionRecord
        code = record.ExceptionCode
        if code == debugapi.EXCEPTION_BREAKPOINT and self._is_ours(tid, record):
            return DBG_CONTINUE
        if code in codes.FOR_DEBUGGERS:
            return DBG_CONTINUE
        if not info.dwFirstChance:
            if self._what.crashes:
                self._hold_at(
                    record,
                    WatchEvent(EventKind.SIGNAL, tid, tid, number=code, type=codes.name_of(code)),
                )
        elif self._throws and code == codes.MANAGED:
            if self._is_throw(record):
                self._thrown(tid, record)
        elif self._shows and code not in codes.NOISE:
            name = f"{code:08X}.{codes.name_of(code)}"
            self._tell(WatchEvent(EventKind.SEEN, tid, tid, type=name))
        return DBG_EXCEPTION_NOT_HANDLED

    def _hold_at(self, record: EXCEPTION_RECORD, event: WatchEvent) -> None:
        """Hold the process at an exception, which is then that of its dumps."""
        self.held = ExceptionInfo(
            event.tid,
            record.ExceptionCode,
            record.ExceptionAddress or 0,
            record.ExceptionFlags,
            record.ExceptionRecord or 0,
            tuple(word or 0 for word in record.ExceptionInformation[: record.NumberParameters]),
        )
        self._hold(event)
        self.held = None

    def _is_ours(self, tid: int, record: EXCEPTION_RECORD) -> bool:
        """Whether a breakpoint is the system's, at our beginning or to stop, or our own."""
        first, self._began = not self._began, True
        if first and self._what.exits and wine.is_wine():
            self._exit = wine.ExitBreakpoint(self._process.pid)
        if first or record.ExceptionAddress == debugapi.DbgBreakPoint.address:
            return True
        if self._exit and self._exit.is_at(record.ExceptionAddress):
            if self._exit.pass_by(tid):
                self._hold(WatchEvent(EventKind.EXIT, tid, tid))
            return True
        return False

    def _is_throw(self, record: EXCEPTION_RECORD) -> bool:
        """Whether a managed exception is thrown; the runtime is heard of once for each.

        From .NET 9 on the runtime tells debuggers of each by one without parameters; one with
        parameters, the last of them the runtime's base, is no more than the end of it.
        """
        if record.NumberParameters == 0:
            self._notifies = True
            return True
        return (
            not self._notifies
            and record.NumberParameters == 5
            and record.ExceptionInformation[4] in self._images
        )

    def _thrown(self, tid: int, record: EXCEPTION_RECORD) -> None:
        thrown = self._thrower.last(tid)
        if thrown.rule is None:
            rule = self._ask(tid)
            thrown = Thrown(self._thrower.last(tid).address, rule)
        rule = thrown.rule
        if rule is None:  # we leave
            return
        message = ""
        if self._shows or rule.verdict is Verdict.BY_TEXT:
            message = self._thrower.message(thrown)
        if not self._rests and (
            rule.verdict is Verdict.MATCHES
            or (
                rule.verdict is Verdict.BY_TEXT
                and self._texts.matches(f'{MANAGED_CODE}.{rule.name} ("{message}")')
            )
        ):
            kind = EventKind.EXCEPTION
            event = WatchEvent(kind, tid, tid, 0, thrown.address, 0, rule.name, message)
            self._hold_at(record, event)
        elif self._shows:
            name = f"{MANAGED_CODE}.{rule.name}"
            inner = list(self._inner(tid, thrown))
            self._tell(
                WatchEvent(EventKind.SEEN, tid, tid, type=name, message=message, inner=inner)
            )

    def _inner(self, tid: int, thrown: Thrown) -> Iterator[tuple[str, str]]:
        """The types and messages of the exceptions inside one."""
        for _ in range(_MOST_INNER):
            thrown = self._thrower.inner(thrown)
            if not thrown.address:
                return
            rule = thrown.rule or self._ask(tid, thrown.address)
            if rule is None:  # we leave
                return
            thrown = Thrown(thrown.address, rule)
            yield rule.name, self._thrower.message(thrown)

    def _ask(self, tid: int, address: int = 0) -> Rule | None:
        """The rule for an exception object, else for what a thread throws; None if we leave."""
        self._asked = tid, None
        self._hold(WatchEvent(EventKind.TYPE, tid, tid, address=address))
        return self._asked[1]

    @property
    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    @property
    def _is_news(self) -> bool:
        return self._began or self._launched

    def _begun(self, event: DEBUG_EVENT) -> int:
        tid = event.dwThreadId
        if event.u.CreateThread.lpStartAddress == debugapi.DbgUiRemoteBreakin.address:
            self._own_threads.add(tid)
        elif self._what.threads and self._is_news:
            self._tell(WatchEvent(EventKind.BEGAN, tid, tid))
        return DBG_CONTINUE

    def _gone(self, event: DEBUG_EVENT) -> int:
        tid = event.dwThreadId
        self._thrower.forget(tid)
        if tid in self._own_threads:
            self._own_threads.discard(tid)
        elif self._what.threads:
            self._tell(WatchEvent(EventKind.GONE, tid, tid))
        return DBG_CONTINUE

    def _created(self, event: DEBUG_EVENT) -> int:
        created = event.u.CreateProcessInfo
        self._image(created.lpBaseOfImage, created.hFile)
        return DBG_CONTINUE

    def _loaded(self, event: DEBUG_EVENT) -> int:
        self._image(event.u.LoadDll.lpBaseOfDll, event.u.LoadDll.hFile)
        return DBG_CONTINUE

    def _image(self, base: int, file: int | None) -> None:
        self._images[base] = path = _path(file) if file else _NAMELESS
        if self._what.threads and self._is_news:
            self._tell(WatchEvent(EventKind.LOADED, address=base, message=path))

    def _unloaded(self, event: DEBUG_EVENT) -> int:
        path = self._images.pop(event.u.UnloadDll.lpBaseOfDll, _NAMELESS)
        if self._what.threads:
            self._tell(WatchEvent(EventKind.UNLOADED, message=path))
        return DBG_CONTINUE

    def _said(self, event: DEBUG_EVENT) -> int:
        if not self._what.output:
            return DBG_CONTINUE
        tid, told = event.dwThreadId, event.u.DebugString
        unit, coding = (2, "utf-16-le") if told.fUnicode else (1, "mbcs")
        try:
            data = self._process.memory.read(told.lpDebugStringData, unit * told.nDebugStringLength)
        except MemoryFaultError:
            return DBG_CONTINUE
        text = data.decode(coding, "replace").split("\0")[0].rstrip()
        if text and not self._rests and self._output and self._output.matches(text):
            self._hold(WatchEvent(EventKind.OUTPUT, tid, tid, message=text))
        elif text:
            self._tell(WatchEvent(EventKind.SAID, tid, tid, message=text))
        return DBG_CONTINUE

    def _ended(self, event: DEBUG_EVENT) -> int:
        tid, code = event.dwThreadId, event.u.ExitProcess.dwExitCode
        if self._what.exits and not wine.is_wine():
            self._hold(WatchEvent(EventKind.EXIT, tid, tid, code))
        self._tell(WatchEvent(EventKind.ENDED, number=code))
        return DBG_CONTINUE


def _path(file: int) -> str:
    """The path of an open file."""
    buffer = ctypes.create_unicode_buffer(_PATH_SIZE)
    fileapi.GetFinalPathNameByHandleW(file, buffer, _PATH_SIZE, 0)
    return buffer.value.removeprefix("\\\\?\\") or _NAMELESS
