"""A minidump of a held process: written by dbghelp from a plan and held against it, else by us."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..._version import __version__
from ...dbghelp import MINIDUMP_TYPE
from ...errors import (
    CaptureError,
    DumpFormatError,
    MemoryFaultError,
    TargetExitedError,
)
from ...formats.minidump import (
    OWN_STREAM,
    ExceptionInfo,
    MemorySegment,
    MinidumpStreams,
    Stream,
)
from ...formats.minidump_reader import read_minidump
from ...formats.minidump_writer import MinidumpLayout, layout
from ...plan import CaptureWarning, DumpPlan
from ...ranges import MemoryRange, Reason, joined, subtract
from ...target import MemoryCopied, MemoryReader, Output, ThreadInfo, VmRegion
from . import arguments, dbghelp
from .arguments import ExceptionArguments, StreamArguments
from .forward import ForwardSink, described
from .memory import OwnMemory
from .planhandler import PlanHandler
from .sinks import FileSink, MemorySink, Sink

if TYPE_CHECKING:
    from .process import WindowsProcess

Progress = Callable[[int], None]

FLAGS = (
    MINIDUMP_TYPE.MiniDumpWithFullMemory
    | MINIDUMP_TYPE.MiniDumpWithHandleData
    | MINIDUMP_TYPE.MiniDumpWithUnloadedModules
    | MINIDUMP_TYPE.MiniDumpWithFullMemoryInfo
    | MINIDUMP_TYPE.MiniDumpWithThreadInfo
    | MINIDUMP_TYPE.MiniDumpWithoutAuxiliaryState
    | MINIDUMP_TYPE.MiniDumpIgnoreInaccessibleMemory
)
"""Of every mode: the plan alone says which memory. Only with full memory does dbghelp write 64-bit
lists and exact ranges; without auxiliary state it loads no provider into our process."""

_SPARE = 64 << 10  # bytes of the own stream, which is filled in last
_CHUNK = 1 << 20  # bytes that the native writer reads at once
_HEAD = 8 << 20  # bytes of a dump beside memory, threads and regions
_THREAD_SIZE = 4096  # a CONTEXT, a name, times
_REGION_SIZE = 128  # MINIDUMP_MEMORY_INFO, and a memory descriptor on each side


class MinidumpImage:
    """A minidump to be: prepared while the target is held, written then or, from a copy, later."""

    def __init__(
        self,
        process: WindowsProcess,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        *,
        exception: ExceptionInfo | None = None,
    ) -> None:
        self.warnings: list[CaptureWarning] = []
        self.file_size = 0
        """Apparent bytes of the file; known once it is written."""
        self.data_size = plan.size
        """Bytes of memory to copy."""
        self._process = process
        self._options = process.options
        self._exception = process.options.exception or exception
        self._plan = plan
        self._regions = regions
        self._threads = threads
        self._ranges = joined(plan.ranges)
        self._own = Stream(OWN_STREAM, 0, 0)
        self._native: tuple[MinidumpStreams, MinidumpLayout] | None = None
        self._segments: Sequence[MemorySegment] = ()

    def copy(self, source: MemoryReader) -> MemorySink:
        """The dump in our own memory; only inside `stopped()`.

        Raises:
            InsufficientMemoryError: the system does not give so much memory.
            CaptureError, MemoryFaultError, TargetExitedError: as `write`.
        """
        sink = MemorySink(OwnMemory(self.data_size + self._head_limit()))
        try:
            self._take(sink, source, None)
        except BaseException:
            sink.close()
            raise
        return sink

    def write(
        self,
        source: MemoryReader | MemoryCopied,
        output: Output,
        progress: Progress | None = None,
    ) -> None:
        """Write all but the own stream: from a copy, or else only inside `stopped()`.

        Raises:
            OSError: the file cannot be written.
            CaptureError: neither dbghelp nor the native writer could do it.
            MemoryFaultError: GC heap memory cannot be read.
            TargetExitedError: the process ended meanwhile.
        """
        only_forward = output.descriptor < 0
        sink = ForwardSink(output.put) if only_forward else FileSink(output.descriptor)
        if isinstance(source, MemorySink):
            if only_forward:
                self._seal(source, self._first_word())
            source.write(sink, progress)
        else:
            self._take(sink, source, progress)
        self.file_size = sink.size

    def seal(self, output: Output, own: Mapping[str, object]) -> None:
        """Write the own stream, once all is known that it tells.

        Where there is no way back, it tells no more than was known before the memory.

        Raises:
            CaptureError: it tells too much.
        """
        if output.descriptor >= 0:
            self._seal(FileSink(output.descriptor), own)

    def _seal(self, sink: Sink, own: Mapping[str, object]) -> None:
        if self._native:
            streams, plan = self._native
            plan = plan.with_streams(dataclasses.replace(streams, own=own))
            sink.put(0, memoryview(plan.header))
            return
        text = json.dumps(own, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if len(text) > self._own.size:
            raise CaptureError(
                f"the own stream needs {len(text)} bytes where {self._own.size} were kept free",
                stage="layout",
            )
        sink.put(self._own.offset, memoryview(text.ljust(self._own.size)))

    def _head_limit(self) -> int:
        """Bytes that the file may take beside its memory."""
        regions = len(self._regions) + len(self._ranges)
        return _HEAD + _THREAD_SIZE * len(self._threads) + _REGION_SIZE * regions

    def _take(
        self, sink: Sink, source: MemoryReader | MemoryCopied, progress: Progress | None
    ) -> None:
        """Write by dbghelp, and what is not as planned once more without it, in the same stop."""
        # What a snapshot shares with the running process is put in its place afterwards.
        only_forward = bool(self._process.copied) and isinstance(sink, ForwardSink)
        if self._options.writer != "native" and not only_forward:
            problem = self._by_dbghelp(sink, source, progress)
            if not problem:
                return
            if self._process.exited:
                self._raise_exited()
            self.warnings.append(
                CaptureWarning("dbghelp", f"written without dbghelp, because {problem}")
            )
            sink.clear()
        self._natively(sink, source, progress)
        missing = [] if isinstance(sink, ForwardSink) else self._missing(sink)
        if missing:
            raise CaptureError(f"the dump lacks {described(missing)}", stage="write")

    def _by_dbghelp(
        self, sink: Sink, source: MemoryReader | MemoryCopied, progress: Progress | None
    ) -> str:
        """Why the file cannot stay as dbghelp wrote it, "" where it can."""
        callback = self._options.callback  # may leave out what it likes, and end the dump
        forward = sink if isinstance(sink, ForwardSink) else None
        try:
            if forward:
                forward.expect(self._without_memory(), () if callback else self._ranges)
            self._call_dbghelp(self._ranges, sink, progress)
            if forward:
                forward.finish()
            missing = [] if forward else self._missing(sink)
            self._put_memory(sink, source, self._copied_segments(), None)
        except (CaptureError, DumpFormatError) as err:
            if callback or (forward and forward.begun):
                raise
            return str(err)
        return f"it left out {described(missing)}" if missing and not callback else ""

    def _without_memory(self) -> bytes:
        """What dbghelp writes of the target when none of its memory is wanted."""
        sink = MemorySink(OwnMemory(self._head_limit()))
        try:
            self._call_dbghelp([], sink, None)
            with sink.reader() as file:
                return file.read()
        finally:
            sink.close()

    def _call_dbghelp(
        self, ranges: Sequence[MemoryRange], sink: Sink, progress: Progress | None
    ) -> None:
        options = self._options
        # JSON, which allows the spaces.
        own = json.dumps(self._first_word()).encode().ljust(_SPARE)
        streams = StreamArguments([*arguments.streams(options), (OWN_STREAM, own)])
        exception = ExceptionArguments(self._exception) if self._exception else None
        dbghelp.write_dump(
            options.dbghelp,
            self._process.dump_handle,
            self._process.pid,
            FLAGS,
            PlanHandler(
                ranges,
                sink,
                self._within(progress),
                options.callback,
                snapshot=self._process.dump_handle != self._process.handle,
            ),
            streams=streams.information,
            exception=exception.information if exception else None,
        )

    def _first_word(self) -> dict[str, object]:
        """What the own stream tells until it is sealed."""
        return {
            "version": __version__,
            "mode": self._plan.mode.value,
            "pid": self._process.pid,
            "name": self._process.name,
            "clr": dict(self._plan.clr),
            "warnings": list(map(dataclasses.asdict, (*self._plan.warnings, *self.warnings))),
        }

    def _natively(
        self, sink: Sink, source: MemoryReader | MemoryCopied, progress: Progress | None
    ) -> None:
        streams = dataclasses.replace(
            self._process.streams(self._threads, self._regions),
            comment=self._options.comment,
            user_streams=self._options.user_streams,
            exception=self._exception,
            own=self._first_word(),
        )
        plan = layout(streams, self._ranges, timestamp=int(time.time()), spare=_SPARE)
        self._native = streams, plan
        report = self._within(progress)
        sink.put(0, memoryview(plan.header))
        self._put_memory(sink, source, plan.segments, report)

    def _copied_segments(self) -> Iterator[MemorySegment]:
        """The parts of what was written that a snapshot has copies of."""
        for start, end, offset in self._segments:
            for copy in self._process.copied:
                first, last = max(start, copy.start), min(end, copy.end)
                if first < last:
                    yield MemorySegment(first, last, offset + first - start)

    def _put_memory(
        self,
        sink: Sink,
        source: MemoryReader | MemoryCopied,
        segments: Iterable[MemorySegment],
        report: Progress | None,
    ) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        for start, end, offset in segments:
            for address in range(start, end, _CHUNK):
                part = buffer[: min(_CHUNK, end - address)]
                self._fill(source, address, part)
                sink.put(offset + address - start, part)
                if report:
                    report(sink.size)

    def _fill(self, source: MemoryReader | MemoryCopied, address: int, part: memoryview) -> None:
        """Read a piece; what cannot be read is zero and a warning, unless it is GC heap."""
        done = source.read_into(address, part)
        if done == part.nbytes:
            return
        if self._process.exited:
            self._raise_exited()
        start, end = address + done, address + part.nbytes
        for first, last, reasons in self._plan.ranges:
            if first < end and start < last and reasons & Reason.GC_HEAP:
                raise MemoryFaultError(
                    f"GC heap memory at 0x{start:x} ({end - start} bytes) cannot be read",
                    address=start,
                    size=end - start,
                )
        part[done:] = bytes(end - start)
        self.warnings.append(
            CaptureWarning("copy", f"{end - start} bytes at 0x{start:x} cannot be read", start)
        )

    def _missing(self, sink: Sink) -> list[MemoryRange]:
        """Read what was written: the parts of the plan that are not in it.

        Raises:
            DumpFormatError: it is no minidump, or one without our stream.
        """
        with sink.reader() as file:
            dump = read_minidump(file)
        self._segments = dump.segments
        if isinstance(sink, MemorySink):
            sink.segments = dump.segments
        own = next((stream for stream in dump.directory if stream.type == OWN_STREAM), None)
        if own is None:
            raise DumpFormatError("it has no stream of ours")
        self._own = own
        return subtract(self._ranges, joined(dump.segments))

    def _within(self, progress: Progress | None) -> Progress | None:
        """Progress in bytes of memory, from one in bytes of the file, which has a head too."""
        if progress is None:
            return None
        return lambda size: progress(min(size, self.data_size))

    def _raise_exited(self) -> None:
        pid = self._process.pid
        raise TargetExitedError(f"process {pid} ended while it was being dumped", pid=pid)
