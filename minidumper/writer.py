"""Dumps in one call: by pid, name or open target, to a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from . import platforms
from .capture import Capture
from .dbghelp import CallbackHandler
from .formats.minidump import ExceptionInfo
from .naming import output_paths
from .outputs import Progress
from .plan import DumpMode, DumpPlan
from .platforms.options import DumpOptions
from .report import CaptureReport
from .target import LiveTarget


def write_dump(
    process: int | str | LiveTarget,
    mode: DumpMode | str = DumpMode.HEAP,
    path: str | None = None,
    *,
    async_copy: bool = False,
    overwrite: bool = False,
    compress: int | None = None,
    dac: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> CaptureReport:
    """Dump a process, given by pid, name or as an open target, to `path`.

    `path` may be a folder or hold tokens (PROCESSNAME PID YYMMDD HHMMSS); without it the file goes
    to the current folder under its default name. With `async_copy` the target stands still
    for a snapshot alone, or a copy into memory, and runs on while the file is written.
    `compress` is a level of zstd, 1 to 19; a path that ends in .zst is compressed without it.

    Raises:
        TargetError, ClrError, CaptureError: it says what failed; the target runs on, and no file
            is left.
    """
    writer = DumpWriter(
        mode,
        async_copy=async_copy,
        overwrite=overwrite,
        compress=compress,
        dac=dac,
        progress=progress,
    )
    return writer.write(process, path)


def plan_dump(
    process: int | str | LiveTarget,
    mode: DumpMode | str = DumpMode.HEAP,
    *,
    dac: Sequence[str | Path] = (),
) -> DumpPlan:
    """What a dump would hold, from a short stop of the target.

    Raises:
        TargetError, ClrError: as `write_dump`.
    """
    with ExitStack() as stack:
        target = _opened(process, stack)
        capture = Capture(target, [_mode(mode)], dac=[Path(item) for item in dac])
        return stack.enter_context(capture).plans()[0]


class DumpWriter:
    """Writes dumps of one mode with the same options, one target after another.

    They are those of `write_dump` (`async_io` is `async_copy` under the original's name), a
    `comment` for whoever opens the file, and for the minidumps of Windows alone: `user_streams`,
    type and bytes of each; the `exception` that the dump is taken for; a `callback` that sees what
    dbghelp asks and changes its decisions (`minidumper.dbghelp.CallbackHandler`); the `writer`,
    "dbghelp" by default, or "native"; and the full path of the `dbghelp` to use.
    """

    def __init__(
        self,
        mode: DumpMode | str = DumpMode.HEAP,
        *,
        comment: str | None = None,
        user_streams: Mapping[int, bytes] | Iterable[tuple[int, bytes]] = (),
        exception: ExceptionInfo | None = None,
        async_io: bool = False,
        progress: Progress | None = None,
        callback: CallbackHandler | None = None,
        async_copy: bool = False,
        overwrite: bool = False,
        compress: int | None = None,
        dac: Sequence[str | Path] = (),
        writer: str = "",
        dbghelp: str = "",
    ) -> None:
        """Nothing is looked at before `write`."""
        self.mode = _mode(mode)
        self._options = DumpOptions(
            comment or "", dict(user_streams), exception, callback, writer, dbghelp
        )
        self._async_copy = async_copy or async_io
        self._overwrite = overwrite
        self._level = compress
        self._dac = [Path(item) for item in dac]
        self._progress = progress

    def write(self, process: int | str | LiveTarget, path: str | None = None) -> CaptureReport:
        """Dump a process; see `write_dump`.

        Raises:
            TargetError, ClrError, CaptureError: as `write_dump`.
            UsageError: an option that is of Windows alone.
            BaseException: what the callback raised.
        """
        with ExitStack() as stack:
            target = _opened(process, stack)
            platforms.configure(target, self._options)
            (file,) = output_paths(
                path,
                [self.mode],
                name=target.name,
                pid=target.pid,
                when=datetime.now(),
                overwrite=self._overwrite,
                packed=self._level is not None,
            )
            capture = stack.enter_context(Capture(target, [self.mode], dac=self._dac))
            (report,) = capture.write(
                [file],
                async_copy=self._async_copy,
                overwrite=self._overwrite,
                level=self._level,
                progress=self._progress,
            )
            return report


def _opened(process: int | str | LiveTarget, stack: ExitStack) -> LiveTarget:
    if isinstance(process, int | str):
        return stack.enter_context(platforms.open_target(process))
    return process


def _mode(mode: DumpMode | str) -> DumpMode:
    return mode if isinstance(mode, DumpMode) else DumpMode.parse(mode)
