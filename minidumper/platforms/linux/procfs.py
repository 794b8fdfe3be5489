"""/proc/PID as values (proc(5)): bytes in, records out."""

from __future__ import annotations

import errno
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from ...ranges import PAGE_SIZE, MemoryRange
from ...target import VmRegion

_MAPS_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ (\d+) *(.*)$", re.MULTILINE
)
_OCTAL = re.compile(r"\\([0-7]{3})")

# /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst: eight bytes a page; the highest
# byte has bit 63 present, 62 swapped, 61 file page or shared anonymous, 56 mapped here alone.
_PRESENT = 0x80
_SWAPPED = 0x40
_FILE_OR_SHARED = 0x20
_EXCLUSIVE = 0x01
_RESIDENT = bytes(1 if byte & (_PRESENT | _SWAPPED) else 0 for byte in range(256))
_MODIFIED = bytes(
    1 if byte & (_PRESENT | _SWAPPED) and not byte & _FILE_OR_SHARED else 0 for byte in range(256)
)
_ALONE = bytes(
    1 if byte & _PRESENT and byte & _EXCLUSIVE and not byte & _FILE_OR_SHARED else 0
    for byte in range(256)
)
_RUN = re.compile(rb"\x01+")
_PAGEMAP_CHUNK = 1 << 18  # pages a read: 2 MB of pagemap for 1 GB of memory


class Status(NamedTuple):
    """What we use of /proc/PID/status."""

    name: str
    tgid: int
    ppid: int
    uid: int
    gid: int
    tracer_pid: int
    namespace_pid: int
    seccomp: int
    no_new_privs: int
    rss: int
    swap: int
    anonymous: int
    page_tables: int
    deliverable_signals: int
    """Pending signals that are not blocked, signal n as bit n - 1."""
    shadow_stack: bool

    @property
    def commit(self) -> int:
        """Bytes of resident and swapped memory."""
        return self.rss + self.swap


def program_of(pid: int) -> bytes | None:
    """The addresses that the kernel gave a process's program (getauxval(3)), as bytes.

    None once no thread has memory any more: what was killed is there until reaped.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return None
    for tid in threads:
        with suppress(FileNotFoundError, ProcessLookupError):  # that thread ended
            try:
                with open(f"/proc/{pid}/task/{tid}/auxv", "rb") as vector:
                    if addresses := vector.read():
                        return addresses
            except PermissionError:  # who may not look is told so where it matters
                return b""
    return None


def parse_maps(text: bytes) -> list[VmRegion]:
    """Regions from the bytes of /proc/PID/maps."""
    regions = []
    for start, end, protection, offset, inode, path in _MAPS_LINE.findall(text):
        name = os.fsdecode(path)
        if "\\" in name:  # the kernel writes a newline in a path as \012
            name = _OCTAL.sub(lambda match: chr(int(match[1], 8)), name)
        regions.append(
            VmRegion(
                int(start, 16),
                int(end, 16),
                protection.decode("ascii"),
                int(offset, 16),
                name,
                int(inode),
            )
        )
    return regions


def parse_status(text: str) -> Status:
    """Fields from the text of /proc/PID/status; what an older kernel lacks is 0."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def number(key: str, index: int = 0) -> int:
        words = fields.get(key, "").split()
        return int(words[index]) if words else 0

    def signals(key: str) -> int:
        return int(fields.get(key, "0"), 16)

    return Status(
        name=fields.get("Name", ""),
        tgid=number("Tgid"),
        ppid=number("PPid"),
        uid=number("Uid", 1),
        gid=number("Gid", 1),
        tracer_pid=number("TracerPid"),
        namespace_pid=number("NSpid", -1) or number("Tgid"),
        seccomp=number("Seccomp"),
        no_new_privs=number("NoNewPrivs"),
        rss=number("VmRSS") * 1024,
        swap=number("VmSwap") * 1024,
        anonymous=number("RssAnon") * 1024,
        page_tables=number("VmPTE") * 1024,
        deliverable_signals=(signals("SigPnd") | signals("ShdPnd")) & ~signals("SigBlk"),
        shadow_stack="shstk" in fields.get("x86_Thread_features", ""),
    )


def parse_auxv(data: bytes) -> dict[int, int]:
    """Types to values from the bytes of /proc/PID/auxv (getauxval(3))."""
    values = array("Q", data[: len(data) // 16 * 16])
    return {key: value for key, value in zip(values[::2], values[1::2], strict=True) if key}


def _runs(pagemap: int, span: MemoryRange, table: bytes) -> Iterator[MemoryRange]:
    """Runs of pages in `span` whose pagemap entry `table` accepts; neighbours not yet joined."""
    for start in range(span.start, span.end, _PAGEMAP_CHUNK * PAGE_SIZE):
        pages = min(_PAGEMAP_CHUNK, (span.end - start) // PAGE_SIZE)
        entries = os.pread(pagemap, pages * 8, start // PAGE_SIZE * 8)
        if len(entries) < pages * 8:  # nothing is told of memory that is gone
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        for match in _RUN.finditer(entries[7::8].translate(table)):
            yield MemoryRange(start + match.start() * PAGE_SIZE, start + match.end() * PAGE_SIZE)


def _joined(runs: Iterator[MemoryRange]) -> list[MemoryRange]:
    out: list[MemoryRange] = []
    for run in runs:
        if out and out[-1].end == run.start:
            out[-1] = MemoryRange(out[-1].start, run.end)
        else:
            out.append(run)
    return out


def resident_runs(pagemap: int, span: MemoryRange) -> Sequence[MemoryRange]:
    """Runs of pages in `span` that are present or swapped; `pagemap` is an open descriptor.

    Raises:
        ProcessLookupError: the process has ended.
    """
    return _joined(_runs(pagemap, span, _RESIDENT))


def modified_runs(pagemap: int, span: MemoryRange) -> Sequence[MemoryRange]:
    """Runs of pages in `span` of a private file mapping that were copied on write.

    Raises:
        ProcessLookupError: the process has ended.
    """
    return _joined(_runs(pagemap, span, _MODIFIED))


def is_present(pagemap: int, address: int) -> bool:
    """Whether the page of `address` is present or swapped."""
    entry = os.pread(pagemap, 8, address // PAGE_SIZE * 8)
    return bool(entry) and bool(entry[7] & (_PRESENT | _SWAPPED))


def exclusive_size(pagemap: int, span: MemoryRange) -> int:
    """Bytes of private pages in `span` that no other process maps.

    Raises:
        ProcessLookupError: the process has ended.
    """
    return sum(run.end - run.start for run in _runs(pagemap, span, _ALONE))
