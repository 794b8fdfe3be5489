"""What a minidump says: values, and the layouts of its records.

Sources: minidumpapiset.h (https://learn.microsoft.com/windows/win32/api/minidumpapiset/); a unit
test holds each layout against `minidumper.dbghelp`. All of it is little endian and packed.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..ranges import MemoryRange

MAGIC = b"MDMP"
"""MINIDUMP_SIGNATURE."""
VERSION = 42899
"""MINIDUMP_VERSION, the lower 16 bits of the header's version."""

# MINIDUMP_STREAM_TYPE
THREAD_LIST = 3
MODULE_LIST = 4
MEMORY_LIST = 5
EXCEPTION = 6
SYSTEM_INFO = 7
THREAD_EX_LIST = 8
MEMORY64_LIST = 9
COMMENT_A = 10
COMMENT_W = 11
HANDLE_DATA = 12
UNLOADED_MODULE_LIST = 14
MISC_INFO = 15
MEMORY_INFO_LIST = 16
THREAD_INFO_LIST = 17
THREAD_NAMES = 24
LAST_RESERVED = 0xFFFF
OWN_STREAM = 0x4D444D50
"""Our own stream ("MDMP"): a JSON object in UTF-8, the same as the own note of an ELF core."""

# MINIDUMP_TYPE
WITH_FULL_MEMORY = 0x2
WITH_HANDLE_DATA = 0x4
WITH_UNLOADED_MODULES = 0x20
WITH_FULL_MEMORY_INFO = 0x800
WITH_THREAD_INFO = 0x1000

HEADER = struct.Struct("<4sIIIIIQ")
DIRECTORY = struct.Struct("<III")
STRING = struct.Struct("<I")
COUNT = struct.Struct("<I")
LIST = struct.Struct("<III")
THREAD = struct.Struct("<4I2Q4I")
THREAD_EX = struct.Struct("<4I2Q4IQ2I")
THREAD_INFO = struct.Struct("<4I6Q")
THREAD_NAME = struct.Struct("<IQ")
MODULE = struct.Struct("<Q4I52s4I2Q")
UNLOADED_MODULE = struct.Struct("<Q4I")
MEMORY_DESCRIPTOR = struct.Struct("<QII")
MEMORY64 = struct.Struct("<QQ")
MEMORY_INFO_HEADER = struct.Struct("<IIQ")
MEMORY_INFO = struct.Struct("<QQI4xQIII4x")
EXCEPTION_RECORD = struct.Struct("<I4xIIQQI4x15QII")
SYSTEM = struct.Struct("<3H2B5I2H24s")
MISC = struct.Struct("<6I")
MISC_4 = struct.Struct("<11I4I172s520s80s")
HANDLE_HEADER = struct.Struct("<IIII")
HANDLE = struct.Struct("<Q6I")

# MINIDUMP_MISC_INFO.Flags1
MISC_PROCESS_ID = 0x1
MISC_PROCESS_TIMES = 0x2
MISC_INTEGRITY = 0x10
MISC_BUILD_STRING = 0x100

# CodeView records as the linker writes them; "BpEL" is Breakpad's, for ELF images
# (https://chromium.googlesource.com/breakpad, minidump_format.h).
_RSDS = struct.Struct("<4s16sI")
_NB10 = struct.Struct("<4sIII")
_FIXED_FILE_INFO = struct.Struct("<13I")
_FIXED_FILE_INFO_SIGNATURE = 0xFEEF04BD


class SystemInfo(NamedTuple):
    """Processor and system; `architecture` is PROCESSOR_ARCHITECTURE_* (0 x86, 9 x64, 12 ARM64).

    `cpu` is the 24 bytes of CPU_INFORMATION.
    """

    architecture: int
    level: int = 0
    revision: int = 0
    processors: int = 0
    product_type: int = 1
    major: int = 0
    minor: int = 0
    build: int = 0
    platform_id: int = 2
    service_pack: str = ""
    suite_mask: int = 0
    cpu: bytes = bytes(24)


class MiscInfo(NamedTuple):
    """The process; None is what is not known. Times are seconds, `create_time` since 1970."""

    pid: int | None = None
    create_time: int | None = None
    user_time: int = 0
    kernel_time: int = 0
    integrity_level: int | None = None
    build: str = ""
    debugger_build: str = ""


class CodeView(NamedTuple):
    """Where a module's symbols are: `build_id` as symbol servers want it, and the path."""

    build_id: str
    path: str = ""


class Module(NamedTuple):
    """A loaded module.

    `version_info` is its VS_FIXEDFILEINFO (52 bytes, or none), `cv_record` its CodeView record.
    """

    base: int
    size: int
    name: str
    checksum: int = 0
    timestamp: int = 0
    version_info: bytes = b""
    cv_record: bytes = b""
    misc_record: bytes = b""

    @property
    def version(self) -> str:
        """The file version, "" where there is none."""
        return file_version(self.version_info)

    @property
    def codeview(self) -> CodeView | None:
        """What the CodeView record says, None where there is none of a known form."""
        return parse_codeview(self.cv_record)


class UnloadedModule(NamedTuple):
    """A module that was unloaded before the dump."""

    base: int
    size: int
    name: str
    checksum: int = 0
    timestamp: int = 0


class ThreadDetails(NamedTuple):
    """MINIDUMP_THREAD_INFO: create and exit time as FILETIME, CPU times in 100 ns."""

    dump_flags: int = 0
    dump_error: int = 0
    exit_status: int = 0x103  # STILL_ACTIVE
    create_time: int = 0
    exit_time: int = 0
    kernel_time: int = 0
    user_time: int = 0
    start_address: int = 0
    affinity: int = 0


class Thread(NamedTuple):
    """A thread: `context` is its CONTEXT, `stack` from the stack pointer to the stack's end."""

    tid: int
    context: bytes
    stack: MemoryRange = MemoryRange(0, 0)
    teb: int = 0
    suspend_count: int = 0
    priority_class: int = 0
    priority: int = 0
    name: str = ""
    details: ThreadDetails | None = None


class RegionInfo(NamedTuple):
    """A region as VirtualQueryEx reports it: MEM_* and PAGE_* numbers of winnt.h."""

    start: int
    end: int
    allocation_base: int
    allocation_protect: int
    state: int
    protect: int
    type: int


class ExceptionInfo(NamedTuple):
    """The exception that the dump was taken for."""

    tid: int
    code: int
    address: int = 0
    flags: int = 0
    record: int = 0
    parameters: tuple[int, ...] = ()
    context: bytes = b""


class Handle(NamedTuple):
    """An open handle."""

    handle: int
    type_name: str = ""
    object_name: str = ""
    attributes: int = 0
    granted_access: int = 0
    handle_count: int = 0
    pointer_count: int = 0


@dataclass(frozen=True, slots=True)
class MinidumpStreams:
    """All that a minidump says besides memory; `own` is what minidumper adds as JSON.

    `user_streams` are those of other programs, by type (above LAST_RESERVED).
    """

    system: SystemInfo | None = None
    misc: MiscInfo | None = None
    modules: Sequence[Module] = ()
    unloaded_modules: Sequence[UnloadedModule] = ()
    threads: Sequence[Thread] = ()
    regions: Sequence[RegionInfo] = ()
    exception: ExceptionInfo | None = None
    handles: Sequence[Handle] = ()
    comment: str = ""
    user_streams: Mapping[int, bytes] = field(default_factory=dict)
    own: Mapping[str, object] | None = None


class MemorySegment(NamedTuple):
    """Memory that is in the file: [start, end) lies at `offset` (bytes)."""

    start: int
    end: int
    offset: int


class Stream(NamedTuple):
    """An entry of the directory; bytes."""

    type: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class Minidump:
    """A minidump that was read: its streams, and the memory it holds sorted by address.

    `flags` is a MINIDUMP_TYPE, `timestamp` seconds since 1970, `directory` all streams, those that
    `streams` does not tell too.
    """

    flags: int
    timestamp: int
    directory: tuple[Stream, ...]
    streams: MinidumpStreams
    segments: tuple[MemorySegment, ...]


def file_version(version_info: bytes) -> str:
    """The file version in a VS_FIXEDFILEINFO, "" if it has none."""
    if len(version_info) < _FIXED_FILE_INFO.size:
        return ""
    signature, _, high, low, *_ = _FIXED_FILE_INFO.unpack_from(version_info)
    if signature != _FIXED_FILE_INFO_SIGNATURE:
        return ""
    return ".".join(str(part) for part in (high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF))


def parse_codeview(record: bytes) -> CodeView | None:
    """What a CodeView record says; None for a form that is not known, or a record cut short."""
    if record[:4] == b"RSDS" and len(record) >= _RSDS.size:
        _, guid, age = _RSDS.unpack_from(record)
        key = f"{uuid.UUID(bytes_le=guid).hex.upper()}{age:X}"
        return CodeView(key, _path(record[_RSDS.size :]))
    if record[:4] == b"NB10" and len(record) >= _NB10.size:
        _, _, timestamp, age = _NB10.unpack_from(record)
        return CodeView(f"{timestamp:08X}{age:X}", _path(record[_NB10.size :]))
    if record[:4] == b"BpEL":
        return CodeView(record[4:].hex())
    return None


def _path(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
