"""What a target is to the rest of the program: protocols and records, no system in sight.

A live process and a dump file are both a `Target`; providers, plan and writers know no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

from .errors import MemoryFaultError, OutputError
from .plan import CaptureWarning, DumpPlan
from .ranges import MemoryRange
from .report import ExceptionInfo


class VmRegion(NamedTuple):
    """A region of virtual memory as the system reports it.

    `protection` is as in /proc/PID/maps (proc(5)): r, w, x or - each, then p (private) or
    s (shared). `offset` is the byte offset in `path`; `path` is "" for anonymous memory. Windows
    tells no inodes, and its paths start with a device or a drive.
    """

    start: int
    end: int
    protection: str
    offset: int = 0
    path: str = ""
    inode: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def readable(self) -> bool:
        """Whether the target itself may read here."""
        return self.protection[0] == "r"

    @property
    def is_file(self) -> bool:
        """Whether a file of the file system backs this region."""
        return self._is_windows_file or (self.inode != 0 and self.path.startswith("/"))

    @property
    def file_path(self) -> str:
        """The file's path without the kernel's " (deleted)"; "" for memory that has none."""
        if not self.is_file or self.path.startswith(("/memfd:", "/dev/", "/SYSV", "/anon_huge")):
            return ""
        return self.path.removesuffix(" (deleted)")

    @property
    def private_anonymous(self) -> bool:
        """Whether a page that is not resident is certain to read as zeros."""
        return (
            self.protection[3] == "p"
            and self.inode == 0
            and not self._is_windows_file
            and not self.path.startswith(("[vdso", "[vvar", "[vsyscall"))
        )

    @property
    def _is_windows_file(self) -> bool:
        return self.path.startswith("\\") or self.path[1:3] == ":\\"


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """A stopped thread.

    `tid` is the id that the process itself knows it by, in its own pid namespace.
    `context` is its CONTEXT structure as the DAC wants it (winnt.h, AMD64: 0x4d0 bytes).
    `regsets` are the system's own register sets by note type (elf.h NT_*): kernel layout.
    `signal` is the signal that the thread was about to take, 0 for none.
    `teb` is where its environment block lies (Windows), 0 where there is none.
    """

    tid: int
    ip: int
    sp: int
    context: bytes
    regsets: Mapping[int, bytes] = field(default_factory=dict)
    siginfo: bytes = b""
    signal: int = 0
    name: str = ""
    teb: int = 0


class ModuleInfo(NamedTuple):
    """A file mapped as an image: [base, end) spans its mappings."""

    path: str
    base: int
    end: int
    build_id: str = ""
    version: str = ""


class MemorySource(NamedTuple):
    """Where a worker process reads the target's memory from.

    `descriptor` is an open file (Linux: /proc/PID/mem or a dump; Windows: a process handle).
    `table` has (start, end, file offset) rows for a dump, and is empty where the offset in the
    file is the address itself. `is_process` tells a Windows process handle from a file.
    `copies` is a file that is read instead wherever its table has the address. `frames` are those
    of a compressed file (start, end, file offset, size), in which offsets are those unpacked.
    """

    descriptor: int
    table: Sequence[tuple[int, int, int]] = ()
    is_process: bool = False
    copies: MemorySource | None = None
    frames: Sequence[tuple[int, int, int, int]] = ()


class MemoryReader(Protocol):
    """Reads memory of a target."""

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes from `address`.

        Raises:
            MemoryFaultError: not all of it can be read.
        """
        ...

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address`; returns the bytes read before the first fault."""
        ...


def read_exactly(
    read_into: Callable[[int, memoryview], int], address: int, size: int, *, whose: str
) -> bytes:
    """Exactly `size` bytes from `address`; `whose` memory it is goes into the error.

    Raises:
        MemoryFaultError: not all of it can be read.
    """
    buffer = bytearray(size)
    done = read_into(address, memoryview(buffer))
    if done != size:
        raise MemoryFaultError(
            f"memory of {whose} at 0x{address + done:x} cannot be read", address=address, size=size
        )
    return bytes(buffer)


class Target(Protocol):
    """A process or a dump of one."""

    @property
    def pid(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def memory(self) -> MemoryReader: ...

    def memory_source(self) -> MemorySource:
        """What a worker process reads from."""
        ...

    def stopped(self) -> AbstractContextManager[None]:
        """Hold all threads of the target; they run again on every way out."""
        ...

    def regions(self) -> Sequence[VmRegion]:
        """All regions of the address space, sorted by address."""
        ...

    def threads(self) -> Sequence[ThreadInfo]:
        """All threads with registers, the main thread first; only inside `stopped()`."""
        ...

    def modules(self) -> Sequence[ModuleInfo]:
        """Mapped images, each path once, sorted by base."""
        ...

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> Sequence[MemoryRange]:
        """The parts of `span` whose bytes must be read; the rest of it is certain to be zero."""
        ...

    def modified_pages(self, region: VmRegion) -> Sequence[MemoryRange]:
        """Pages of a private file mapping that no longer equal the file (copied on write)."""
        ...


class MemoryCopied(Protocol):
    """Memory of a target taken into our own, read like the target itself."""

    def read_into(self, address: int, buffer: memoryview) -> int: ...

    def close(self) -> None: ...


class FileImage(Protocol):
    """A dump that is laid out: its bytes can be written, and sealed with a last note."""

    @property
    def warnings(self) -> list[CaptureWarning]: ...

    @property
    def file_size(self) -> int:
        """Apparent bytes of the file."""
        ...

    @property
    def data_size(self) -> int:
        """Bytes of memory to copy."""
        ...

    def write(
        self,
        source: MemoryReader | MemoryCopied,
        output: Output,
        progress: Callable[[int], None] | None = None,
    ) -> None: ...

    def seal(self, output: Output, own: Mapping[str, object]) -> None: ...


class DumpImage(FileImage, Protocol):
    """A dump whose bytes can be copied into memory first."""

    def copy(self, source: MemoryReader) -> MemoryCopied: ...


class Output(Protocol):
    """A file that appears under its name only at `commit()`; closing it before leaves nothing."""

    @property
    def descriptor(self) -> int:
        """The open file; -1 where bytes can only be put one after another."""
        ...

    @property
    def path(self) -> str: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: Any) -> None: ...

    def put(self, offset: int, data: memoryview) -> None:
        """Write all of `data`; the offsets of a dump rise, and what lies between is zero.

        Raises:
            OSError: the file cannot be written.
        """
        ...

    def commit(self) -> int:
        """Bytes that the file takes on the disk."""
        ...


class LiveTarget(Target, Protocol):
    """A process that can be dumped; use it in `with`, which closes it."""

    warnings: list[CaptureWarning]
    """What went not as usual during the last stop."""

    @property
    def user(self) -> tuple[int, int] | None:
        """User and group ids that the DAC of the process is to run as.

        None where there is nothing to change, or no right to: a worker then stays who we are, and
        a DAC is trusted only where root or we alone can write.
        """
        ...

    @property
    def root(self) -> str:
        """A prefix that makes the target's own paths reachable from here, "" where none is."""
        ...

    @property
    def held_since(self) -> float | None:
        """Since when an event holds all threads (time.monotonic); None where none does."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: Any) -> None: ...

    def close(self) -> None: ...

    def image(
        self,
        plan: DumpPlan,
        regions: Sequence[VmRegion],
        threads: Sequence[ThreadInfo],
        *,
        runtime_base: int,
        exception: ExceptionInfo | None = None,
    ) -> DumpImage:
        """Lay out a dump; only inside `stopped()`. `exception` is what the target is held at."""
        ...


class SnapshotTarget(LiveTarget, Protocol):
    """A copy of a process that holds still while that runs on; closing it gives it back."""

    def copied_on_write(self) -> int | None:
        """Bytes that the process had to copy, as it wrote to them while the snapshot lived.

        None where the system does not tell.
        """
        ...


class CaptureBackend(Protocol):
    """What a system does for a capture; `platforms.backend()` gives this system's."""

    @property
    def sequential(self) -> bool:
        """Whether images can be written to an output that has no descriptor."""
        ...

    def prepare_snapshot(self, target: LiveTarget) -> Callable[[], SnapshotTarget] | None:
        """What takes a snapshot of a process inside `stopped()`; None where a system has none.

        Raises:
            CaptureError: this process cannot be snapshot, with the reason.
        """
        ...

    def output(self, path: str, *, overwrite: bool) -> Output: ...

    def free_space(self, path: str) -> int: ...

    def free_memory(self) -> tuple[int, str]:
        """Bytes that a copy may take, and whose limit that is."""
        ...

    def output_error(self, err: OSError, path: str) -> OutputError: ...
