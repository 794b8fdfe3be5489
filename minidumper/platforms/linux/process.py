"""A live Linux process as a Target."""

from __future__ import annotations

import bisect
import errno
import itertools
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import NoReturn, Self

from ...errors import (
    BitnessMismatchError,
    TargetExitedError,
    TargetNotFoundError,
    UnsupportedTargetError,
)
from ...formats.context import amd64_context
from ...formats.elfnotes import CoreNotes, CoreThread, MappedFile, ProcessInfo
from ...images.core import CoreImage, diagnostics
from ...plan import CaptureWarning, DumpPlan
from ...ranges import MemoryRange
from ...report import ExceptionInfo
from ...target import MemoryReader, MemorySource, ModuleInfo, ThreadInfo, VmRegion, read_exactly
from . import access, libc, procfs
from .ptrace import Keeper, Tracer

_USER_REGS = 27 * 8  # struct user_regs_struct, sys/user.h
_FPREGS = 512  # struct user_fpregs_struct: the FXSAVE area
_XSTATE_MAX = 16384  # AMX tiles included (Intel SDM volume 1, 13.5)
RIP, RSP = 16 * 8, 19 * 8  # offsets in user_regs_struct
_ELFCLASS64 = 2  # elf.h, e_ident[EI_CLASS]


class ProcessMemory:
    """Memory of a live process: process_vm_readv(2), and /proc/PID/mem where that is refused."""

    def __init__(self, pid: int, descriptor: int, *, direct: bool = True) -> None:
        """Memory of process `pid`; `direct` allows process_vm_readv."""
        self._pid = pid
        self._descriptor = descriptor
        self._direct = direct

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address`; returns the bytes read before the first fault."""
        done = 0
        while done < buffer.nbytes:
            count = self._read_some(address + done, buffer[done:])
            if not count:
                break
            done += count
        return done

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes from `address`.

        Raises:
            MemoryFaultError: not all of it can be read.
        """
        return read_exactly(self.read_into, address, size, whose=f"process {self._pid}")

    def _read_some(self, address: int, buffer: memoryview) -> int:
        if self._direct:
            try:
                return libc.process_vm_read(self._pid, address, buffer)
            except OSError as err:
                # Seccomp profiles of containers forbid the call but not the file.
                if err.errno in (errno.EPERM, errno.ENOSYS):
                    self._direct = False
        try:
            return os.preadv(self._descriptor, [buffer], address)
        except (OSError, OverflowError):  # no file offset reaches the upper half of 64 bits
            return 0


class LinuxProcess:
    """A process that runs, or is held by us; close it after use."""

    def __init__(self, pid: int) -> None:
        """Open process `pid` for reading.

        Raises:
            TargetNotFoundError: there is no such process.
            AccessDeniedError: a gate is closed; the error names it.
            UnsupportedTargetError, BitnessMismatchError: another architecture.
        """
        self.pid = pid
        self.comment = ""
        try:
            # Names under this descriptor stay this process's, even when the pid is used again.
            self._folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise TargetNotFoundError(
                f"there is no process {pid}", pid=pid, hint="see: ps -e"
            ) from None
        self.mem = self.pagemap = -1
        self.keeper: Keeper | None = None
        """Who holds the threads when they are to stop; None for ourselves."""
        self._tracer: Keeper | None = None
        try:
            self.status = procfs.parse_status(self._text("status"))
            self.mem = self._open_guarded("mem")
            self.pagemap = self._open_guarded("pagemap")
            self._check_architecture()
        except BaseException:
            self.close()
            raise
        self.memory: MemoryReader = ProcessMemory(pid, self.mem)
        self.warnings: list[CaptureWarning] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in (self.mem, self.pagemap, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self.mem = self.pagemap = self._folder = -1

    @property
    def name(self) -> str:
        """The process's name: that of its .dll where the dotnet host runs one, else its own."""
        arguments = self.arguments()
        if self.status.name == "dotnet":
            for word in arguments[1:]:
                if word.endswith(".dll"):
                    return os.path.basename(word)[: -len(".dll")]
        executable = os.path.basename(arguments[0]) if arguments and arguments[0] else ""
        return executable if executable.startswith(self.status.name) else self.status.name

    @property
    def root(self) -> str:
        """Where the target's root folder can be reached from here."""
        return f"/proc/{self.pid}/root"

    @property
    def user(self) -> tuple[int, int] | None:
        """Its effective user and group; None where we are the same, or may not become it."""
        wanted = self.status.uid, self.status.gid
        same = wanted == (os.geteuid(), os.getegid())
        return None if same or not access.can_change_user() else wanted

    def has_ended(self) -> bool:
        """Whether no thread has memory any more."""
        return procfs.program_of(self.pid) is None

    def arguments(self) -> list[str]:
        """The command line."""
        return os.fsdecode(self._bytes("cmdline")).rstrip("\0").split("\0")

    def auxv(self) -> bytes:
        """The auxiliary vector as the kernel gives it."""
        return self._bytes("auxv")

    @property
    def held_since(self) -> float | None:
        """An event holds its own thread alone."""
        return None

    def memory_source(self) -> MemorySource:
        """The descriptor of /proc/PID/mem: who holds it may read, whatever his rights."""
        return MemorySource(self.mem)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold all threads; they run again on every way out, even if we are killed.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: the process ended meanwhile.
            StopTimeoutError: a thread did not stop in time.
        """
        tracer = self.keeper or Tracer(self.pid)
        try:
            try:
                tracer.stop()
            except PermissionError:
                status = procfs.parse_status(self._text("status"))
                raise access.denied(self.pid, status) from None
            self._tracer = tracer
            self.warnings = list(tracer.warnings)
            yield
        finally:
            self._tracer = None
            tracer.release()

    @property
    def tracer(self) -> Keeper:
        """Who holds the threads; only inside `stopped()`."""
        if self._tracer is None:
            raise RuntimeError("this needs stopped()")
        return self._tracer

    def regions(self) -> list[VmRegion]:
        """All regions of the address space, sorted by address."""
        return procfs.parse_maps(self._bytes("maps"))

    def threads(self) -> list[ThreadInfo]:
        """The held threads with their registers: first that of an event, then the main thread."""
        signals = self.tracer.signals
        first = self.tracer.first or self.pid
        order = sorted(signals, key=lambda tid: (tid != first, tid != self.pid, tid))
        threads = []
        for tid in order:
            try:
                threads.append(self._thread(tid, signals[tid]))
            except ProcessLookupError:
                self.warnings.append(
                    CaptureWarning("threads", f"thread {tid} was killed while stopped", tid=tid)
                )
        if not threads:
            self._exited()
        return threads

    def modules(self) -> list[ModuleInfo]:
        """Mapped files that start with a mapping of their first page, sorted by base."""
        spans: dict[str, tuple[int, int]] = {}
        for region in self.regions():
            path = region.file_path
            if path in spans:
                spans[path] = (spans[path][0], region.end)
            elif path and region.offset == 0:
                spans[path] = (region.start, region.end)
        return [ModuleInfo(path, base, end) for path, (base, end) in spans.items()]

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> list[MemoryRange]:
        """The parts of `span` whose bytes must be read: all but absent private anonymous pages.

        Shared, memfd and file pages read as absent in pagemap and still hold data.
        """
        out: list[MemoryRange] = []
        first = bisect.bisect_right(regions, span.start, key=attrgetter("end"))
        for region in itertools.islice(regions, first, None):
            if region.start >= span.end:
                break
            part = MemoryRange(max(span.start, region.start), min(span.end, region.end))
            runs = self._resident_runs(part) if region.private_anonymous else [part]
            for run in runs:
                if out and out[-1].end == run.start:
                    out[-1] = MemoryRange(out[-1].start, run.end)
                else:
                    out.append(run)
        return out

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """Pages of a private file mapping that were copied on write."""
        try:
            return procfs.modified_runs(self.pagemap, MemoryRange(region.start, region.end))
        except ProcessLookupError:
            self._exited()

    def image(
        self,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        *,
        runtime_base: int,
        exception: ExceptionInfo | None = None,
    ) -> CoreImage:
        """Lay out an ELF core; only inside `stopped()`."""
        return CoreImage(
            self,
            plan,
            regions,
            self._notes(regions, threads),
            diagnostics=diagnostics(runtime_base, exception),
            comment=self.comment,
            has_ended=self.has_ended,
        )

    def _notes(self, regions: Sequence[VmRegion], threads: Sequence[ThreadInfo]) -> CoreNotes:
        return CoreNotes(
            process=ProcessInfo(
                pid=self.status.namespace_pid,  # as the threads' ids are
                ppid=self.status.ppid,
                uid=self.status.uid,
                gid=self.status.gid,
                name=self.status.name,
                args=" ".join(self.arguments()),
            ),
            auxv=procfs.parse_auxv(self.auxv()),
            files=[
                MappedFile(r.start, r.end, r.offset, r.file_path) for r in regions if r.file_path
            ],
            threads=[CoreThread(t.tid, t.regsets, t.siginfo, t.signal) for t in threads],
        )

    def _resident_runs(self, span: MemoryRange) -> Sequence[MemoryRange]:
        try:
            return procfs.resident_runs(self.pagemap, span)
        except ProcessLookupError:
            self._exited()

    def _thread(self, tid: int, pending: int) -> ThreadInfo:
        registers = self.tracer.regset(tid, libc.NT_PRSTATUS, _USER_REGS)
        floating = self.tracer.regset(tid, libc.NT_FPREGSET, _FPREGS)
        regsets = {libc.NT_PRSTATUS: registers, libc.NT_FPREGSET: floating}
        with suppress(OSError):  # ENODEV: a processor without XSAVE
            xstate = self.tracer.regset(tid, libc.NT_X86_XSTATE, _XSTATE_MAX)
            regsets[libc.NT_X86_XSTATE] = xstate
        return ThreadInfo(
            tid=self.own_tid(tid),
            ip=struct.unpack_from("<Q", registers, RIP)[0],
            sp=struct.unpack_from("<Q", registers, RSP)[0],
            context=amd64_context(registers, floating),
            regsets=regsets,
            siginfo=self.tracer.siginfo(tid) if pending else b"",
            signal=pending,
            name=self._text(f"task/{tid}/comm").rstrip("\n"),
        )

    def own_tid(self, tid: int) -> int:
        """The id that the process itself knows a thread by: the CLR's lists have no other."""
        if self.status.namespace_pid == self.pid:
            return tid
        return procfs.parse_status(self._text(f"task/{tid}/status")).namespace_pid

    def _check_architecture(self) -> None:
        machine = platform.machine()
        if machine != "x86_64":
            raise UnsupportedTargetError(f"minidumper does not know the processor {machine} yet")
        with open(self._open_guarded("exe"), "rb") as file:
            head = file.read(5)
        if head[:4] == b"\x7fELF" and head[4] != _ELFCLASS64:
            raise BitnessMismatchError(
                f"process {self.pid} is 32-bit, and 32-bit processes are not supported on Linux",
                pid=self.pid,
                hint="use gcore",
            )

    def _bytes(self, name: str) -> bytes:
        with open(self._open_guarded(name), "rb") as file:
            return file.read()

    def _text(self, name: str) -> str:
        return self._bytes(name).decode("utf-8", "replace")

    def _open_guarded(self, name: str) -> int:
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        except PermissionError:
            raise access.denied(self.pid, self.status) from None
        except (FileNotFoundError, ProcessLookupError):
            if name == "exe" and os.path.exists(f"/proc/{self.pid}/stat"):
                raise UnsupportedTargetError(
                    f"process {self.pid} has no program: it is a kernel thread or a zombie",
                    pid=self.pid,
                ) from None
            self._exited()

    def _exited(self) -> NoReturn:
        raise TargetExitedError(f"process {self.pid} ended", pid=self.pid)
