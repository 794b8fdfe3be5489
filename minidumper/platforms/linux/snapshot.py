"""A copy-on-write snapshot of a stopped process: a Target that stays as it is while that runs on.

gadgets = prepare_snapshot(process)
with process.stopped():
    snapshot = take_snapshot(process, gadgets)
with snapshot: ...
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ...errors import CaptureError, MemoryFaultError, MiniDumperError, TargetExitedError
from ...plan import CaptureWarning
from ...ranges import MemoryRange, joined
from ...target import MemorySource, ThreadInfo, VmRegion
from ..copies import COPY_LIMIT, Copies, SnapshotMemory
from . import fork, procfs
from .headroom import STAGE, check_headroom
from .process import LinuxProcess, ProcessMemory
from .ptrace import Tracer, is_dead
from .sigchain import Gadgets, find_gadgets
from .unforked import unforked

HOLD_S = 300.0
"""Seconds after which a snapshot is let go: it costs the target a page for each one it writes."""

_C_LIBRARIES = ("libc.", "libc-", "ld-musl-")
_FIRST_VICTIM = b"1000"  # proc_pid_oom_score_adj(5): rather than the target


def prepare_snapshot(process: LinuxProcess) -> Gadgets:
    """Find out whether a process can be snapshot; it runs on and nothing of it is touched.

    Raises:
        CaptureError: it cannot, with the reason.
    """
    check_headroom(process.pid)
    gadgets = find_gadgets(_library_code(process))
    if gadgets is None:
        raise CaptureError("no snapshot: no C library of the target is known", stage=STAGE)
    return gadgets


def take_snapshot(
    process: LinuxProcess,
    gadgets: Gadgets,
    *,
    hold_s: float = HOLD_S,
    copy_limit: int = COPY_LIMIT,
) -> Snapshot:
    """A snapshot of a process; only inside `stopped()`, whose threads may run on afterwards.

    Its owner is the calling OS thread, which must live as long as it.

    Raises:
        CaptureError: none can be had; the process is as it was.
        TargetExitedError: the process ended meanwhile.
    """
    try:
        snapshot = _take(process, gadgets, copy_limit)
    except (CaptureError, OSError) as err:
        if is_dead(process.pid) or not process.regions():  # about to be
            raise TargetExitedError(
                f"process {process.pid} ended while it was made to fork", pid=process.pid
            ) from err
        raise
    snapshot.hold(hold_s)
    return snapshot


def _take(process: LinuxProcess, gadgets: Gadgets, copy_limit: int) -> Snapshot:
    regions = process.regions()
    threads = process.threads()
    tracer = process.tracer
    if not isinstance(tracer, Tracer):
        raise CaptureError("no snapshot: the target is held by the guardian", stage=STAGE)
    if not gadgets.are_in(process.memory):
        raise CaptureError("no snapshot: the target has started another program", stage=STAGE)
    memory = os.open(f"/proc/{process.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        child = fork.fork_held(fork.Held(tracer, regions, memory, gadgets))
    finally:
        os.close(memory)
    try:
        return Snapshot(process, child, gadgets, regions, threads, copy_limit)
    except BaseException:
        _let_go(process.pid, child, gadgets)
        raise


def _library_code(process: LinuxProcess) -> Iterator[tuple[int, bytes]]:
    for region in process.regions():
        name = os.path.basename(region.path)
        if "x" in region.protection and (name.startswith(_C_LIBRARIES) or name == "[vdso]"):
            with suppress(MemoryFaultError):
                yield region.start, process.memory.read(region.start, region.size)


class Snapshot(LinuxProcess):
    """The memory of a process as a fork of it holds it, the rest as it was in the stop."""

    def __init__(
        self,
        process: LinuxProcess,
        child: int,
        gadgets: Gadgets,
        regions: list[VmRegion],
        threads: list[ThreadInfo],
        copy_limit: int,
    ) -> None:
        super().__init__(child)
        self.child = child
        self.pid = process.pid
        self.comment = process.comment
        self.status = process.status
        self._gadgets = gadgets
        self._regions = regions
        self._threads = threads
        self._timer: threading.Timer | None = None
        self._letting_go = threading.Lock()
        self._gone = False
        try:
            if os.listdir(f"/proc/{child}/fd"):
                raise CaptureError("no snapshot: it would keep files open", stage=STAGE)
            spans = unforked(regions, super().regions(), process.pagemap, self.pagemap)
            file = os.memfd_create("minidumper-copies", os.MFD_CLOEXEC)
            self.copies = Copies(process.memory, spans, copy_limit, file)
        except BaseException:
            super().close()
            raise
        # process_vm_readv(2) pins pages, and Linux gives a process its own copy of a page before it
        # is pinned (5.19, FAULT_FLAG_UNSHARE): reading would double the memory. The file does not.
        memory = ProcessMemory(child, self.mem, direct=False)
        self.memory = SnapshotMemory(memory, self.copies, self._check_alive)
        self.warnings = [*process.warnings, *self.copies.warnings]
        try:
            Path(f"/proc/{child}/oom_score_adj").write_bytes(_FIRST_VICTIM)
        except OSError as err:
            self.warnings.append(CaptureWarning(STAGE, f"oom_score_adj stays: {err.strerror}"))

    def hold(self, seconds: float) -> None:
        """Let the snapshot go by itself after so many seconds; what is read later fails."""
        self._timer = threading.Timer(seconds, self._let_go)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Let the snapshot go and give the memory back."""
        if self._timer:
            self._timer.cancel()
        self._let_go()
        if self.mem >= 0:
            self.copies.close()
        super().close()

    @property
    def root(self) -> str:
        """Where the target's root folder can be reached from here, even when it has ended."""
        return f"/proc/{self.child}/root"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """A snapshot is stopped all the time."""
        yield

    def has_ended(self) -> bool:
        """Never: the process may have, and a snapshot that is gone says so when it is read."""
        return False

    def regions(self) -> list[VmRegion]:
        """All regions of the target as they were in the stop."""
        return self._regions

    def threads(self) -> list[ThreadInfo]:
        """The threads of the target as they were in the stop, the main thread first."""
        return self._threads

    def memory_source(self) -> MemorySource:
        """The child's memory, and the copies that are read instead of it."""
        return super().memory_source()._replace(copies=self.copies.source())

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> list[MemoryRange]:
        """The parts of `span` whose bytes must be read; the rest of it is certain to be zero."""
        return self._with_copies(super().resident(regions, span), span)

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """Pages of a private file mapping that were copied on write."""
        span = MemoryRange(region.start, region.end)
        return self._with_copies(super().modified_pages(region), span)

    def copied_on_write(self) -> int:
        """Bytes that the snapshot keeps alive: pages that the target has written or freed since."""
        try:
            return sum(
                procfs.exclusive_size(self.pagemap, MemoryRange(region.start, region.end))
                for region in self._regions
                if region.protection[1] == "w" and region.protection[3] == "p"
            )
        except ProcessLookupError:
            self._exited()

    def _with_copies(self, runs: Sequence[MemoryRange], span: MemoryRange) -> list[MemoryRange]:
        copies = [
            MemoryRange(max(start, span.start), min(end, span.end))
            for start, end in self.copies.ranges
            if start < span.end and end > span.start
        ]
        return joined((start, end, None) for start, end in sorted([*runs, *copies]))

    def _check_alive(self) -> None:
        """Raise where nothing can be read any more."""
        if self._gone or not procfs.parse_status(self._text("status")).rss:
            self._exited()

    def _exited(self) -> NoReturn:
        if self._gone:
            raise CaptureError(
                "the snapshot was held too long and has been let go",
                stage=STAGE,
                hint="without --async the file is written while the target is stopped",
            )
        raise CaptureError("the snapshot was killed: no memory was left", stage=STAGE)

    def _let_go(self) -> None:
        with self._letting_go:
            if not self._gone:
                self._gone = True
                self.warnings += _let_go(self.pid, self.child, self._gadgets)


def _let_go(pid: int, child: int, gadgets: Gadgets) -> list[CaptureWarning]:
    """End a child, and have it reaped where the target itself became its parent."""
    status = procfs.parse_status(Path(f"/proc/{child}/status").read_text("utf-8", "replace"))
    fork.end(child)
    if status.ppid != pid:
        return []
    tracer = Tracer(pid)
    try:
        tracer.stop()
        regions = procfs.parse_maps(Path(f"/proc/{pid}/maps").read_bytes())
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            fork.reap_held(fork.Held(tracer, regions, memory, gadgets), status.namespace_pid)
        finally:
            os.close(memory)
    except (MiniDumperError, OSError) as err:
        return [CaptureWarning(STAGE, f"process {pid} keeps a zombie, {child}: {err}")]
    finally:
        tracer.release()
    return []
