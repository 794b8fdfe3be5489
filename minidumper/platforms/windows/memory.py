"""Memory of a live Windows process: bytes, and regions."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import byref, c_size_t, sizeof

from ...errors import InsufficientMemoryError, NativeCallError
from ...target import VmRegion, read_exactly
from . import memoryapi

_PATH_SIZE = 1024
_LOW_BITS = 0xFF  # the protection of PAGE_* without its modifiers, winnt.h


class ProcessMemory:
    """Memory of a live process through ReadProcessMemory."""

    def __init__(self, pid: int, handle: int) -> None:
        self._pid = pid
        self._handle = handle

    def read_into(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address`; returns the bytes read before the first fault."""
        done = 0
        while done < buffer.nbytes:
            rest = buffer[done:]
            count = self._read_some(address + done, rest)
            if not count:
                # All or nothing where the rest is not readable throughout: up to its edge, then.
                edge = self._readable_end(address + done) - (address + done)
                if 0 < edge < rest.nbytes:
                    count = self._read_some(address + done, rest[:edge])
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
        count = c_size_t(0)
        target = (ctypes.c_char * buffer.nbytes).from_buffer(buffer)
        memoryapi.ReadProcessMemory(self._handle, address, target, buffer.nbytes, byref(count))
        return count.value

    def _readable_end(self, address: int) -> int:
        info = query(self._handle, address)
        if info is None or not is_readable(info):
            return address
        return int(info.BaseAddress + info.RegionSize)


class OwnMemory:
    """Zeroed memory of our own: pages are used as they are filled.

    Not a section of the page file, which Wine keeps on the disk and is ten times slower with.
    """

    def __init__(self, size: int) -> None:
        """Take `size` bytes.

        Raises:
            InsufficientMemoryError: the system does not give so much.
        """
        try:
            self._address = memoryapi.VirtualAlloc(
                None, size, memoryapi.MEM_RESERVE | memoryapi.MEM_COMMIT, memoryapi.PAGE_READWRITE
            )
        except NativeCallError as err:
            raise InsufficientMemoryError(
                f"a copy into memory needs {size} bytes: {err}", stage="copy"
            ) from err
        self.view = memoryview((ctypes.c_ubyte * size).from_address(self._address)).cast("B")

    def close(self) -> None:
        """Give it back."""
        self.view.release()
        if self._address:
            memoryapi.VirtualFree(self._address, 0, memoryapi.MEM_RELEASE)
            self._address = 0


def query(handle: int, address: int) -> memoryapi.MEMORY_BASIC_INFORMATION | None:
    """The region at `address`, free ones too; None above the last."""
    info = memoryapi.MEMORY_BASIC_INFORMATION()
    return info if memoryapi.VirtualQueryEx(handle, address, byref(info), sizeof(info)) else None


def is_readable(info: memoryapi.MEMORY_BASIC_INFORMATION) -> bool:
    """Whether a region holds memory that anyone may read; guard pages would lose their guard."""
    return info.State == memoryapi.MEM_COMMIT and not info.Protect & (
        memoryapi.PAGE_NOACCESS | memoryapi.PAGE_GUARD
    )


def regions(handle: int) -> Iterator[VmRegion]:
    """The committed regions of a process; `offset` is that in the image or the view."""
    address = 0
    names: dict[int, str] = {}
    while (info := query(handle, address)) is not None:
        start = info.BaseAddress
        address = start + info.RegionSize
        if info.State != memoryapi.MEM_COMMIT:
            continue
        base = info.AllocationBase
        private = info.Type == memoryapi.MEM_PRIVATE
        if not private and base not in names:
            names[base] = _mapped_file(handle, base)
        yield VmRegion(
            start,
            address,
            _protection(info),
            offset=0 if private else start - base,
            path="" if private else names[base],
        )


def _protection(info: memoryapi.MEMORY_BASIC_INFORMATION) -> str:
    """As in /proc/PID/maps; a page that nobody can read without harm has none."""
    letters = memoryapi.PROTECTION.get(info.Protect & _LOW_BITS, "---")
    return (letters if is_readable(info) else "---") + (
        "s" if info.Type == memoryapi.MEM_MAPPED else "p"
    )


def _mapped_file(handle: int, base: int) -> str:
    """The device path of a mapped file, "" for memory that the paging file backs."""
    buffer = ctypes.create_unicode_buffer(_PATH_SIZE)
    memoryapi.GetMappedFileNameW(handle, base, buffer, _PATH_SIZE)
    return buffer.value
