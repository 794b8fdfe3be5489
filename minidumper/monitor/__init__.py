"""Waits for the moment: exceptions, the end, memory limits; a dump at each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .. import platforms
from ..errors import (
    CaptureError,
    MiniDumperError,
    TargetExitedError,
    TargetNotFoundError,
    UsageError,
)
from ..outputs import Progress
from ..plan import DumpMode
from ..platforms.options import DumpOptions
from ..report import CaptureReport
from ..watching import LaunchedProcess, TextFilter, Watcher
from .conditions import FIRST_CHANCE, UNHANDLED, Decide, ExceptionCondition, MemoryCondition
from .finishing import Finisher
from .session import Session
from .wants import DumpSettings, Wants

__all__ = ["Monitor", "found_process"]

_LOG = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Seconds that a limit must hold, and between two dumps; procdump's default."""

_NAME_POLL_S = 0.1
_MB = 1 << 20


class Monitor:
    """Waits in one process for what it is told to, and takes a dump each time.

        monitor = Monitor("MyApp", "heap", "/dumps/", count=3)
        monitor.on_memory(above_mb=2000)
        for report in monitor.run():
            print(report.path)

    The process runs on whatever happens to us. All methods but `stop` belong to one thread.
    """

    def __init__(
        self,
        process: int | str | None = None,
        mode: DumpMode | str | Sequence[DumpMode] = DumpMode.HEAP,
        path: str | None = None,
        *,
        launch: Sequence[str] = (),
        new_console: bool = False,
        wait_for_name: bool = False,
        count: int = 1,
        interval_s: float | None = None,
        async_copy: bool = False,
        overwrite: bool = False,
        compress: int | None = None,
        dac: Sequence[str | Path] = (),
        options: DumpOptions | None = None,
        progress: Progress | None = None,
        fallback: bool = True,
        show: bool = False,
    ) -> None:
        """Choose a process by pid or name, or a command to launch; see `write_dump` for the rest.

        `new_console` launches it in a console of its own. `wait_for_name` waits for a process of
        that name to begin. `count` dumps are taken, `interval_s` seconds apart at least (default
        10, for exceptions 0); so long a memory limit has to hold, too; the end of the process
        waits for nothing. With `fallback` a dump is taken with all private memory of the process
        where the CLR side fails (its DAC crashes or hangs on a dying process). `show` logs every
        exception, thread and module of the process as they come (logger "minidumper", INFO).
        """
        if (process is None) == (not launch):
            raise UsageError("either a process or a command to launch is needed")
        self.launched: LaunchedProcess | None = None
        """The program that was launched."""
        self._process = process
        self._launch = tuple(launch)
        self._new_console = new_console
        self._wait_for_name = wait_for_name
        self._count = count
        self._interval_s = interval_s
        if isinstance(mode, str):
            mode = DumpMode.parse(mode)
        self._settings = DumpSettings(
            modes=[mode] if isinstance(mode, DumpMode) else list(mode),
            path=path,
            repeated=count > 1,
            async_copy=async_copy,
            overwrite=overwrite,
            level=compress,
            dac=[Path(item) for item in dac],
            options=options or DumpOptions(),
            progress=progress,
            falls_back=fallback,
            shares_terminal=bool(launch) and not new_console,
        )
        self._wants = Wants(shows=show)
        self._stopped = False
        self._watcher: Watcher | None = None

    def on_exception(
        self,
        chance: int = FIRST_CHANCE,
        *,
        filter: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        type: str | Sequence[str] = (),
        decide: Decide | None = None,
    ) -> None:
        """A dump at exceptions: 1 when they are thrown, 2 when nobody catches them.

        `filter` and `exclude` match anywhere in `CODE.Type ("message")`, `type` the name of the
        type or of one that it is derived from; `decide` says the last word.
        """
        if chance not in (FIRST_CHANCE, UNHANDLED):
            raise UsageError(f"there is no chance {chance}: exceptions have a first and a second")
        self._wants.exceptions = ExceptionCondition(
            chance, _texts(filter, exclude), _several(type), decide
        )

    def on_output(self, filter: str | Sequence[str], exclude: str | Sequence[str] = ()) -> None:
        """A dump when a line of debug output has one of these texts in it."""
        self._wants.output = _texts(filter, exclude)

    def on_exit(self) -> None:
        """A dump when the process ends, while its memory is still there."""
        self._wants.exits = True

    def on_memory(self, *, above_mb: float | None = None, below_mb: float | None = None) -> None:
        """A dump when the commit charge (Linux: resident and swapped) is above or below a limit."""
        self._wants.memory = MemoryCondition(
            above=None if above_mb is None else above_mb * _MB,
            below=None if below_mb is None else below_mb * _MB,
        )

    def stop(self) -> None:
        """End the wait; any thread may, also a signal handler."""
        self._stopped = True
        if self._watcher:
            self._watcher.wake()

    def run(self) -> Generator[CaptureReport, None, None]:
        """Wait, and give a report for each dump; ends with the last one, or with the process.

        Before the last report the process is let go. Before the others it is watched on: a thread
        that comes to what counts waits there until the next report is asked for.

        Raises:
            UsageError: nothing was said to wait for.
            TargetError, ClrError, CaptureError: a dump failed, or the process cannot be watched;
                it runs on.
        """
        self._check()
        failure: MiniDumperError | None = None
        with Finisher() as files:
            try:
                with self._session() as session:
                    yield from self._watch(session, files)
            except MiniDumperError as err:
                failure = err
            files.wait()  # also for the dump before one that failed
            yield from files.reports()
        if failure:
            raise failure

    def _watch(self, session: Session, files: Finisher) -> Iterator[CaptureReport]:
        """The reports of dumps whose files are whole before all were taken."""
        self._watcher = session.watcher
        taken = 0
        while taken < self._count and not self._stopped and not session.ended:
            try:
                moment = session.wait(soon=files.busy)
                if moment and not moment.is_end and time.monotonic() < session.rests_until:
                    session.go_on()
                elif moment:
                    files.begin(session.dump(moment))
                    taken += 1
            except TargetExitedError as err:
                if not self.launched:
                    raise
                _LOG.debug("%s", err)
                session.ended = True  # its exit code is what counts
            yield from files.reports()
        if session.ended:
            _LOG.info("%s ended; %d of %d dumps taken", session.name, taken, self._count)

    async def __aiter__(self) -> AsyncIterator[CaptureReport]:
        """The same in an event loop, which goes on meanwhile."""
        loop = asyncio.get_running_loop()
        reports = self.run()
        with ThreadPoolExecutor(1, "minidumper-monitor") as thread:
            try:
                while report := await loop.run_in_executor(thread, next, reports, None):
                    yield report
            finally:
                self.stop()
                thread.submit(reports.close).result()

    def _check(self) -> None:
        wants = self._wants
        if not (wants.exceptions or wants.output or wants.exits or wants.memory.is_set):
            raise UsageError("nothing was said to wait for")
        if self._interval_s is not None:
            wants.interval_s = self._interval_s
        elif wants.exceptions is None and wants.output is None:
            wants.interval_s = INTERVAL_S

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """The process under watch, ready for its dumps; it is let go in the end."""
        with self._launched_session() if self._launch else self._found_session() as session:
            try:
                if not self._launch:
                    self._warm(session)
                yield session
            except (KeyboardInterrupt, CaptureError) as err:
                if not session.ended and (self.launched or isinstance(err, KeyboardInterrupt)):
                    _LOG.info("%s runs on", session.target.name)
                raise

    def _found_session(self) -> Session:
        assert self._process is not None
        pid = found_process(self._process, wait_for_name=self._wait_for_name)
        return Session(pid, self._wants, self._settings)

    def _warm(self, session: Session) -> None:
        session.warm()
        if self._wants.throws and session.watcher.advice:
            _LOG.info("%s", session.watcher.advice)
        self._tell_of_createdump(session.target.pid)
        _LOG.info("waiting in process %d (%s)", session.target.pid, session.target.name)

    def _launched_session(self) -> Session:
        self.launched = platforms.launch(self._launch, new_console=self._new_console)
        try:
            session = Session(self.launched.pid, self._wants, self._settings, self.launched)
        except BaseException:
            self.launched.give_up()
            raise
        self._tell_of_createdump(self.launched.pid)
        self.launched.go()
        return session

    def _tell_of_createdump(self, pid: int) -> None:
        if not (self._wants.holds and platforms.dumps_itself(pid)):
            return
        advice = "" if self._wants.exceptions else ": choose -e, so that there is a dump"
        _LOG.info(
            "the process is to run createdump at a crash (DOTNET_DbgEnableMiniDump), which cannot "
            "attach while it is watched%s",
            advice,
        )


def found_process(process: int | str, *, wait_for_name: bool = False) -> int:
    """The pid of a process; where it is to be waited for, when it has begun.

    Raises:
        TargetNotFoundError, AmbiguousTargetError: none, or several, have the name.
    """
    said = False
    while isinstance(process, str):
        try:
            return platforms.pid_of(process)
        except TargetNotFoundError:
            if not wait_for_name:
                raise
        if not said:
            _LOG.info("waiting for a process named %s", process)
            said = True
        time.sleep(_NAME_POLL_S)
    return process


def _texts(wanted: str | Sequence[str], excluded: str | Sequence[str]) -> TextFilter:
    return TextFilter(_several(wanted), _several(excluded))


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
