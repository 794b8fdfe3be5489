"""What a dump file is: who wrote it, of which process, what is in it and what it is good for."""

from __future__ import annotations

import dataclasses
import os
import signal
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .clr.dac import find_dac
from .clr.runtime import find_runtime
from .dbghelp.constants import MINIDUMP_STREAM_TYPE
from .dumpfile import DumpFile, open_dump
from .errors import ClrError, DumpFormatError, MemoryFaultError
from .formats.elf import Note
from .formats.elfcore import (
    SPECIAL_DIAG_INFO_ADDRESS,
    SpecialDiagInfo,
    parse_special_diag_info,
    read_notes,
)
from .formats.elfimage import build_id, read_image
from .formats.elfnotes import NT_AUXV, NT_FILE, NT_PRPSINFO, NT_PRSTATUS
from .formats.minidump import MAGIC, OWN_STREAM, ExceptionInfo, Minidump
from .formats.minidump_reader import read_minidump
from .formats.peimage import read_pe
from .target import ModuleInfo, ThreadInfo

_NOTE_NAMES = {
    1: "NT_PRSTATUS",
    2: "NT_FPREGSET",
    3: "NT_PRPSINFO",
    6: "NT_AUXV",
    0x202: "NT_X86_XSTATE",
    0x205: "NT_X86_XSAVE_LAYOUT",
    0x53494749: "NT_SIGINFO",
    0x46494C45: "NT_FILE",
    0xFF000000: "NT_GDB_TDESC",
}
"""linux/uapi/linux/elf.h; the last is gdb's own: include/elf/common.h of binutils."""
_ARCHITECTURES = {0: "x86", 5: "arm", 9: "x64", 12: "arm64"}
"""PROCESSOR_ARCHITECTURE_*, winnt.h."""
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
_EXCEPTION_RECORD = struct.Struct("<IIQQ")  # EXCEPTION_RECORD, winnt.h: code to address
_SIGINFO = struct.Struct("<iii4xQ")  # siginfo_t, sigaction(2): signo, errno, code, si_addr
_WITH_ADDRESS = (signal.SIGILL, signal.SIGFPE, signal.SIGSEGV)


class ModuleRow(NamedTuple):
    """A module; `version` and `build_id` are "" where the file does not tell."""

    path: str
    base: int
    end: int
    version: str = ""
    build_id: str = ""


class ThreadRow(NamedTuple):
    """A thread and where it stood."""

    tid: int
    ip: int
    sp: int
    name: str = ""


class Content(NamedTuple):
    """Notes or streams of one kind: how many, and their bytes."""

    name: str
    number: int
    size: int


class RuntimeRow(NamedTuple):
    """The .NET runtime of the process, and the DAC that a reader of its heap needs.

    `dac` is the file that was found, "" where there is none; then `dac_missing` says why.
    """

    kind: str
    version: str
    path: str
    build_id: str
    dac: str = ""
    dac_missing: str = ""
    dac_hint: str = ""


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


def dump_info(path: str | os.PathLike[str], dac: Sequence[Path] = ()) -> DumpInfo:
    """What a dump file is, of any writer; `dac` are files and folders that may have its DAC.

    Raises:
        DumpFormatError: it cannot be opened, is no dump of a known format, is cut or damaged.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            stat = os.fstat(file.fileno())
            if file.read(len(MAGIC)) == MAGIC:
                info = _of_minidump(name, read_minidump(file))
            else:
                with open_dump(name) as dump:
                    info = _of_core(dump, list(read_notes(file)), dac)
    except OSError as err:
        raise DumpFormatError(f"cannot read {name}: {err.strerror}", path=name) from err
    except DumpFormatError as err:
        if err.path:
            raise
        raise DumpFormatError(f"{name}: {err}", path=name, offset=err.offset) from err
    # st_blocks counts 512 bytes, stat(2); Windows has none.
    disk_size = getattr(stat, "st_blocks", -(-stat.st_size // 512)) * 512
    made = info.time or _iso(stat.st_mtime)
    return dataclasses.replace(info, size=stat.st_size, disk_size=disk_size, time=made)


def _of_core(dump: DumpFile, notes: Sequence[Note], dac: Sequence[Path]) -> DumpInfo:
    own = dump.note or {}
    process = dump.process
    threads = dump.threads()
    blocks = dump.memory_source().table
    return DumpInfo(
        path=dump.path,
        size=0,
        disk_size=0,
        format="ELF core",
        architecture="x64",
        writer=_own_writer(own) or _core_writer(notes),
        mode=_text(own.get("mode")),
        time=_text(own.get("time")),
        pid=dump.pid,
        name=dump.name,
        arguments=process.args.strip() if process else "",
        threads=[ThreadRow(t.tid, t.ip, t.sp, t.name) for t in threads],
        modules=[_core_module(dump, module) for module in dump.modules()],
        stopped_by=_signal(threads) or _exception_of_core(dump),
        contents=_contents((_NOTE_NAMES.get(n.type, _note_name(n)), len(n.content)) for n in notes),
        memory_blocks=len(blocks),
        memory_size=sum(end - start for start, end, _ in blocks),
        warnings=_own_warnings(own),
        facts=_own_facts(own),
        runtime=_runtime(dump, dac),
    )


def _runtime(dump: DumpFile, search: Sequence[Path]) -> RuntimeRow | None:
    runtime = find_runtime(dump)
    if runtime is None:
        return None
    row = RuntimeRow(runtime.kind.value, runtime.version, runtime.path, runtime.build_id)
    try:
        with find_dac(runtime, search) as dac:
            return row._replace(dac=str(dac.path))
    except ClrError as err:
        return row._replace(dac_missing=str(err), dac_hint=err.hint)


def _core_writer(notes: Sequence[Note]) -> str:
    """Who wrote a core without our note, by what only he does."""
    if any(note.name == b"GDB" for note in notes):
        return "gdb (gcore)"
    kinds = [note.type for note in notes[:3]]
    # src/coreclr/debug/createdump/dumpwriterelf.cpp, WriteDump()
    if kinds == [NT_PRPSINFO, NT_AUXV, NT_FILE]:
        return "createdump"
    # fs/binfmt_elf.c, fill_note_info()
    if kinds[:2] == [NT_PRSTATUS, NT_PRPSINFO]:
        return "the kernel"
    return ""


def _diag_info(dump: DumpFile) -> SpecialDiagInfo | None:
    try:
        return parse_special_diag_info(dump.memory.read(SPECIAL_DIAG_INFO_ADDRESS, 64))
    except MemoryFaultError:
        return None


def _exception_of_core(dump: DumpFile) -> str:
    """The exception that createdump was called for: its page has the record's address."""
    info = _diag_info(dump)
    if info is None or not info.exception_record:
        return ""
    try:
        record = dump.memory.read(info.exception_record, _EXCEPTION_RECORD.size)
    except MemoryFaultError:
        return f"an exception whose record at 0x{info.exception_record:x} is not in the file"
    code, _, _, address = _EXCEPTION_RECORD.unpack(record)
    return _exception_text(code, address)


def _signal(threads: Sequence[ThreadInfo]) -> str:
    """The signal that the first of the threads was about to take; cores start with that one."""
    thread = next((t for t in threads if t.signal), None)
    if thread is None:
        return ""
    try:
        text = f"{signal.Signals(thread.signal).name} in thread {thread.tid}"
    except ValueError:  # a real-time signal, or one that this system does not have
        text = f"signal {thread.signal} in thread {thread.tid}"
    if thread.signal in _WITH_ADDRESS and len(thread.siginfo) >= _SIGINFO.size:
        text += f", address 0x{_SIGINFO.unpack_from(thread.siginfo)[3]:x}"
    return text


def _core_module(dump: DumpFile, module: ModuleInfo) -> ModuleRow:
    """A module with its GNU build id, or the key that symbol servers have a PE image under."""
    key = ""
    try:
        image = read_image(dump.memory.read, module.base)
        if image:
            key = build_id(image)
        elif pe := read_pe(dump.memory.read, module.base):
            key = pe.build_id
    except MemoryFaultError:  # its headers or notes are not in the file
        pass
    return ModuleRow(module.path, module.base, module.end, module.version, key)


def _note_name(note: Note) -> str:
    return f"{note.name.decode('ascii', 'replace')} 0x{note.type:x}"


def _of_minidump(path: str, dump: Minidump) -> DumpInfo:
    streams = dump.streams
    own = streams.own or {}
    misc = streams.misc
    return DumpInfo(
        path=path,
        size=0,
        disk_size=0,
        format="minidump",
        architecture=_architecture(dump),
        writer=_own_writer(own) or (misc.debugger_build if misc else ""),
        mode=_text(own.get("mode")),
        time=_iso(dump.timestamp) if dump.timestamp else "",
        pid=(misc.pid if misc else None) or 0,
        name=streams.modules[0].name.replace("\\", "/").rpartition("/")[2]
        if streams.modules
        else "",
        arguments="",
        threads=[ThreadRow(t.tid, 0, t.stack.start, t.name) for t in streams.threads],
        modules=[
            ModuleRow(
                *(m.name, m.base, m.base + m.size, m.version),
                build_id=m.codeview.build_id if m.codeview else "",
            )
            for m in streams.modules
        ],
        stopped_by=_exception(streams.exception),
        contents=_contents((_stream_name(s.type), s.size) for s in dump.directory),
        memory_blocks=len(dump.segments),
        memory_size=sum(s.end - s.start for s in dump.segments),
        warnings=_own_warnings(own),
        facts=_own_facts(own) | ({"comment": streams.comment} if streams.comment else {}),
    )


def _architecture(dump: Minidump) -> str:
    system = dump.streams.system
    if system is None:
        return ""
    return _ARCHITECTURES.get(system.architecture, f"processor {system.architecture}")


def _stream_name(kind: int) -> str:
    if kind == OWN_STREAM:
        return "minidumper"
    try:
        return MINIDUMP_STREAM_TYPE(kind).name
    except ValueError:
        return f"stream 0x{kind:x}"


def _exception(info: ExceptionInfo | None) -> str:
    return f"{_exception_text(info.code, info.address)} in thread {info.tid}" if info else ""


def _exception_text(code: int, address: int) -> str:
    name = _EXCEPTIONS.get(code)
    return f"exception 0x{code:08x}{f' ({name})' if name else ''} at 0x{address:x}"


def _contents(items: Iterable[tuple[str, int]]) -> list[Content]:
    found: dict[str, Content] = {}
    for name, size in items:
        _, number, before = found.get(name, Content(name, 0, 0))
        found[name] = Content(name, number + 1, before + size)
    return list(found.values())


def _own_writer(own: Mapping[str, object]) -> str:
    return f"minidumper {_text(own.get('version'))}".strip() if own else ""


def _own_warnings(own: Mapping[str, object]) -> list[str]:
    """The warnings in our note: any JSON may stand there."""
    rows = own.get("warnings")
    return [
        f"{_text(row.get('stage'))}: {_text(row.get('message'))}"
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]


def _own_facts(own: Mapping[str, object]) -> dict[str, object]:
    clr = own.get("clr")
    facts = dict(clr) if isinstance(clr, dict) else {}
    facts |= {key: own[key] for key in ("pause_s", "async", "totals") if key in own}
    return facts


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
