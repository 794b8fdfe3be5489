"""A live Windows process as a Target."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_int32, c_void_p, sizeof
from operator import attrgetter
from typing import Protocol, Self

from ...dbghelp import CONTEXT, HOST_BITS, wide_string
from ...errors import (
    AccessDeniedError,
    BitnessMismatchError,
    MemoryFaultError,
    NativeCallError,
    TargetExitedError,
    TargetNotFoundError,
)
from ...formats import minidump
from ...formats.peimage import read_pe
from ...plan import CaptureWarning, DumpPlan
from ...ranges import MemoryRange
from ...report import ExceptionInfo
from ...target import MemoryReader, MemorySource, ModuleInfo, ThreadInfo, VmRegion
from ..options import DumpOptions
from . import commandline, memory, toolhelp, win32
from .capture import MinidumpImage
from .debugging import Hold, has_exited
from .privilege import enable_debug_privilege
from .streams import collect_streams
from .versions import fixed_file_info

_ACCESS = (
    win32.PROCESS_QUERY_INFORMATION
    | win32.PROCESS_VM_READ
    | win32.PROCESS_DUP_HANDLE
    | win32.SYNCHRONIZE
)


class Keeper(Protocol):
    """Who holds the process's threads."""

    @property
    def held(self) -> minidump.ExceptionInfo | None:
        """The exception that they are held at, without registers."""
        ...

    @property
    def held_since(self) -> float | None: ...

    def stop(self) -> None:
        """Hold all threads."""
        ...

    def release(self) -> None:
        """Let them run."""
        ...


class WindowsProcess:
    """A process that runs, or is held by us; close it after use."""

    def __init__(self, pid: int) -> None:
        """Open process `pid` for reading.

        Raises:
            TargetNotFoundError: there is no such process.
            AccessDeniedError: it belongs to someone else, or is protected.
            BitnessMismatchError: it has another pointer size than this Python.
        """
        self.pid = pid
        self.options = DumpOptions()
        self.warnings: list[CaptureWarning] = []
        self.handle = _open(pid)
        self.keeper: Keeper | None = None
        """Who holds the threads when they are to stop; None for ourselves."""
        self.copied: Sequence[MemoryRange] = ()
        """What is read from copies: it may be another by now."""
        self._hold: Keeper | None = None
        self._images: dict[toolhelp.Module, ModuleInfo] = {}
        try:
            self._check_bitness()
        except BaseException:
            self.close()
            raise
        self.memory: MemoryReader = memory.ProcessMemory(pid, self.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the handle back."""
        if self.handle:
            win32.CloseHandle(self.handle)
            self.handle = 0

    @property
    def name(self) -> str:
        """The process's name: that of its .dll where the dotnet host runs one, else its own."""
        own = next((name for pid, name in toolhelp.processes() if pid == self.pid), "")
        stem, _ = os.path.splitext(own)
        if stem.lower() == "dotnet":
            for word in self.arguments()[1:]:
                if word.lower().endswith(".dll"):
                    return os.path.splitext(os.path.basename(word))[0]
        return stem

    def arguments(self) -> list[str]:
        """The command line."""
        try:
            line = commandline.command_line(self.handle, self.memory.read)
        except (NativeCallError, MemoryFaultError):
            return []
        return commandline.split(line)

    @property
    def root(self) -> str:
        """The target's paths are ours."""
        return ""

    @property
    def user(self) -> None:
        """There are no user ids."""
        return

    @property
    def exited(self) -> bool:
        """Whether the process has ended."""
        return has_exited(self.handle)

    @property
    def dump_handle(self) -> int:
        """What dbghelp knows the process by."""
        return self.handle

    @property
    def held_at(self) -> minidump.ExceptionInfo | None:
        """The exception that the threads are held at, without registers."""
        return self._hold.held if self._hold else None

    @property
    def held_since(self) -> float | None:
        """Since when an event holds all threads (time.monotonic); None where none does."""
        return self.keeper.held_since if self.keeper else None

    def memory_source(self) -> MemorySource:
        """The process handle, which a worker may inherit."""
        win32.SetHandleInformation(
            self.handle, win32.HANDLE_FLAG_INHERIT, win32.HANDLE_FLAG_INHERIT
        )
        return MemorySource(self.handle, is_process=True)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold all threads; they run again on every way out, even if we are killed.

        Raises:
            AccessDeniedError, AlreadyTracedError: the system forbids it.
            TargetExitedError: the process ended meanwhile.
            StopTimeoutError: it did not stop in time.
        """
        self.warnings = []
        hold = self.keeper or Hold(self.pid, self.handle)
        hold.stop()
        self._hold = hold
        try:
            yield
        finally:
            self._hold = None
            hold.release()

    def regions(self) -> list[VmRegion]:
        """The committed regions of the address space, sorted by address."""
        return list(memory.regions(self.handle))

    def threads(self) -> list[ThreadInfo]:
        """The held threads with their registers, the oldest first."""
        if self._hold is None:
            raise RuntimeError("this needs stopped()")
        threads = []
        for tid in toolhelp.threads(self.pid):
            try:
                threads.append(_thread(tid))
            except NativeCallError as err:
                self.warnings.append(CaptureWarning("threads", f"thread {tid}: {err}", tid=tid))
        if not threads:
            raise TargetExitedError(f"process {self.pid} ended", pid=self.pid)
        return threads

    def modules(self) -> list[ModuleInfo]:
        """The loaded images, each path once, sorted by base."""
        found: dict[str, ModuleInfo] = {}
        for module in sorted(toolhelp.modules(self.pid), key=attrgetter("base")):
            if module not in self._images:
                self._images[module] = self._image(module)
            found.setdefault(module.path, self._images[module])
        return list(found.values())

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> list[MemoryRange]:
        """The readable parts of `span`: any committed page may hold data."""
        out = []
        first = bisect.bisect_right(regions, span.start, key=attrgetter("end"))
        for region in regions[first:]:
            if region.start >= span.end:
                break
            if region.readable:
                out.append(MemoryRange(max(span.start, region.start), min(span.end, region.end)))
        return out

    def modified_pages(self, region: VmRegion) -> list[MemoryRange]:
        """The region, where it was written: until then its protection is another."""
        written = region.protection[1] == "w"
        return [MemoryRange(region.start, region.end)] if written else []

    def image(
        self,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        *,
        runtime_base: int,
        exception: ExceptionInfo | None = None,
    ) -> MinidumpImage:
        """Prepare a minidump; only inside `stopped()`."""
        held = self.held_at
        contexts = {thread.tid: thread.context for thread in threads}
        if held and held.tid in contexts:
            held = held._replace(context=contexts[held.tid])
        return MinidumpImage(self, plan, regions, threads, exception=held)

    def streams(
        self, threads: Sequence[ThreadInfo], regions: Sequence[VmRegion]
    ) -> minidump.MinidumpStreams:
        """What a dump tells besides memory; only inside `stopped()`."""
        return collect_streams(self, threads, regions)

    def _image(self, module: toolhelp.Module) -> ModuleInfo:
        path, base, end = module
        try:
            image = read_pe(self.memory.read, base)
        except MemoryFaultError:
            image = None
        version = minidump.file_version(fixed_file_info(path))
        return ModuleInfo(path, base, end, image.build_id if image else "", version)

    def _check_bitness(self) -> None:
        bits = 32 if _is_emulated(self.handle) else _system_bits()
        if bits != HOST_BITS:
            raise BitnessMismatchError(
                f"process {self.pid} is {bits}-bit and this Python is {HOST_BITS}-bit",
                pid=self.pid,
                hint=f"run minidumper with a {bits}-bit Python",
            )


def _open(pid: int) -> int:
    enable_debug_privilege()
    try:
        return int(win32.OpenProcess(_ACCESS, False, pid))
    except NativeCallError as err:
        if err.code == win32.ERROR_INVALID_PARAMETER:
            raise TargetNotFoundError(
                f"there is no process {pid}", pid=pid, hint="see: tasklist"
            ) from None
        if err.code == win32.ERROR_ACCESS_DENIED:
            gate, hint = (
                ("protected", "the system protects this process from everyone")
                if enable_debug_privilege()
                else ("user", "run as administrator")
            )
            raise AccessDeniedError(
                f"process {pid} cannot be opened: access denied", gate=gate, pid=pid, hint=hint
            ) from None
        raise


def _is_emulated(handle: int) -> bool:
    """Whether a process is a 32-bit one on a 64-bit system (WOW64)."""
    answer = c_int32()
    win32.IsWow64Process(handle, byref(answer))
    return bool(answer.value)


def _system_bits() -> int:
    return 64 if HOST_BITS == 64 or _is_emulated(win32.GetCurrentProcess()) else 32


def _thread(tid: int) -> ThreadInfo:
    access = win32.THREAD_GET_CONTEXT | win32.THREAD_QUERY_INFORMATION
    handle = win32.OpenThread(access, False, tid)
    try:
        _, context = win32.aligned(CONTEXT)  # DECLSPEC_ALIGN(16), winnt.h
        context.ContextFlags = win32.CONTEXT_ALL[HOST_BITS]
        win32.GetThreadContext(handle, byref(context))
        ip, sp = (context.Rip, context.Rsp) if HOST_BITS == 64 else (context.Eip, context.Esp)
        basic = win32.THREAD_BASIC_INFORMATION()
        win32.NtQueryInformationThread(
            handle, win32.THREAD_BASIC_INFORMATION_CLASS, byref(basic), sizeof(basic), None
        )
        return ThreadInfo(
            tid, ip, sp, bytes(context), teb=basic.TebBaseAddress, name=_description(handle)
        )
    finally:
        win32.CloseHandle(handle)


def _description(handle: int) -> str:
    """The name that a program gave the thread; systems before Windows 10 1607 have none."""
    if not win32.GetThreadDescription.exists:
        return ""
    text = c_void_p()
    win32.GetThreadDescription(handle, byref(text))
    try:
        return wide_string(text.value)
    finally:
        win32.LocalFree(text)
