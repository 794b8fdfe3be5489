"""What is told of a dump file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_EXCEPTIONS = {
    0x80000003: "STATUS_BREAKPOINT",
    0xC0000005: "STATUS_ACCESS_VIOLATION",
    0xC0000017: "STATUS_NO_MEMORY",
    0xC0000094: "STATUS_INTEGER_DIVIDE_BY_ZERO",
    0xC00000FD: "STATUS_STACK_OVERFLOW",
    0xC0000409: "STATUS_STACK_BUFFER_OVERRUN",
    0xE0434352: "a CLR exception",
}
"""ntstatus.h; the last is EXCEPTION_COMPLUS of dotnet/runtime, src/coreclr/inc/corexcep.h."""

_MAX_KINDS = 1000  # against damaged files; real ones have about ten


class ModuleRow(NamedTuple):
    """A module; what the file does not tell is "".

    `version` is that of the file, or of the product that an assembly is a part of, and
    `assembly_version` the one by which other assemblies refer to it.
    """

    path: str
    base: int
    end: int
    version: str = ""
    build_id: str = ""
    assembly_version: str = ""


class ThreadRow(NamedTuple):
    """A thread and where it stood; `place` tells in words what is there, "" where nobody knows."""

    tid: int
    ip: int
    sp: int
    name: str = ""
    place: str = ""


class Content(NamedTuple):
    """Notes or streams of one kind: how many, and their bytes."""

    name: str
    number: int
    size: int


class RuntimeRow(NamedTuple):
    """The .NET runtime of the process, and the DAC that a reader of its heap needs.

    `dac` is the file that was found, "" where there is none; then `dac_missing` says why. By its
    word, `heap` and `metadata` are the bytes that the process had, `heap_held` and `metadata_held`
    those in the file; `unreadable` says why it could not tell. A dump without any metadata does
    not even tell its size. `server_gc` is None where that is not known.
    """

    kind: str
    version: str
    path: str
    build_id: str
    dac: str = ""
    dac_missing: str = ""
    dac_hint: str = ""
    server_gc: bool | None = None
    heap: int = 0
    heap_held: int = 0
    metadata: int = 0
    metadata_held: int = 0
    unreadable: str = ""


class Particulars(NamedTuple):
    """What the format of a dump tells in its own way."""

    writer: str
    architecture: str
    time: str
    stopped_by: str
    contents: Sequence[Content]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DumpInfo:
    """What a dump file is. Sizes are bytes; what the file does not tell is "", 0 or empty."""

    path: str
    size: int
    disk_size: int
    format: str
    architecture: str
    writer: str
    mode: str
    time: str
    """When it was made, ISO 8601 in UTC."""
    pid: int
    name: str
    arguments: str
    threads: Sequence[ThreadRow]
    modules: Sequence[ModuleRow]
    stopped_by: str
    """The signal or exception that the dump was taken for."""
    contents: Sequence[Content]
    memory_blocks: int
    memory_size: int
    warnings: Sequence[str]
    """What the writer could not capture, by its own word."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What minidumper noted at the capture."""
    comment: str = ""
    """What whoever took it had to say."""
    runtime: RuntimeRow | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        rows = {
            key: [row._asdict() for row in getattr(self, key)]
            for key in ("threads", "modules", "contents")
        }
        own = {key: getattr(self, key) for key in self.__slots__}
        return (
            own
            | rows
            | {
                "warnings": list(self.warnings),
                "facts": dict(self.facts),
                "runtime": self.runtime._asdict() if self.runtime else None,
            }
        )


def contents(items: Iterable[tuple[str, int]]) -> list[Content]:
    """Names and sizes (bytes), those of one name made one."""
    found: dict[str, Content] = {}
    for name, size in items:
        if name not in found and len(found) >= _MAX_KINDS:
            name = "others"
        _, number, before = found.get(name, Content(name, 0, 0))
        found[name] = Content(name, number + 1, before + size)
    return list(found.values())


def exception_text(code: int, address: int) -> str:
    """A Windows exception, which .NET has on Linux too."""
    name = _EXCEPTIONS.get(code)
    return f"exception 0x{code:08x}{f' ({name})' if name else ''} at 0x{address:x}"
