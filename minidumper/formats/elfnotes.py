"""The notes of a Linux x86-64 core: records <-> bytes.

Structures: linux/elfcore.h, linux/uapi/linux/elf.h (NT_*), sys/procfs.h of glibc; the order of
the notes is createdump's, which ClrMD, gdb and lldb all read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import CaptureError, DumpFormatError
from ..ranges import PAGE_SIZE
from .context import USER_REGS_SIZE
from .elf import Note, pack_note

NT_PRSTATUS = 1
NT_FPREGSET = 2
NT_PRPSINFO = 3
NT_AUXV = 6
NT_X86_XSTATE = 0x202
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45

OWN_NOTE_NAME = b"minidumper"
OWN_NOTE_TYPE = 0x4D444D50
"""Type of our own note ("MDMP"): no number of elf.h, as some readers look at the type alone."""

# struct elf_prstatus, linux/elfcore.h: siginfo (signo, code, errno), cursig, sigpend, sighold,
# pid, ppid, pgrp, sid, four timevals, user_regs_struct, fpvalid.
_PRSTATUS = struct.Struct(f"<3ih2xQQ4i64x{USER_REGS_SIZE}si4x")
# struct elf_prpsinfo, linux/elfcore.h: state, sname, zomb, nice, flag, uid, gid, pid, ppid, pgrp,
# sid, fname, psargs.
_PRPSINFO = struct.Struct("<BcBb4xQIIiiii16s80s")
_FNAME_MAX = 15
_PSARGS_MAX = 79
_AUXV_ENTRY = struct.Struct("<QQ")
# NT_FILE, fs/binfmt_elf.c fill_files_note(): count, page size, rows, then the names.
_FILE_HEADER = struct.Struct("<QQ")
_FILE_ROW = struct.Struct("<QQQ")
_DELETED = " (deleted)"

# Against damaged files, so that a note costs no more memory than a real one could.
_MAX_AUXV_SIZE = 1 << 12  # the kernel has about 25 entries of 16 bytes
_MAX_FILES = 1 << 20  # as many as vm.max_map_count of today's distributions
_MAX_THREADS = 1 << 17
_MAX_OWN_SIZE = 1 << 22


class ProcessInfo(NamedTuple):
    """What NT_PRPSINFO says; `name` and `args` are cut to 15 and 79 bytes in the file."""

    pid: int
    ppid: int = 0
    uid: int = 0
    gid: int = 0
    name: str = ""
    args: str = ""


class MappedFile(NamedTuple):
    """A mapping of a file as NT_FILE has it; `offset` is in bytes."""

    start: int
    end: int
    offset: int
    path: str


class CoreThread(NamedTuple):
    """A thread: register sets by note type, NT_PRSTATUS being user_regs_struct alone.

    `siginfo` is the kernel's siginfo_t, or empty; `signal` is what it was about to take.
    """

    tid: int
    regsets: Mapping[int, bytes]
    siginfo: bytes = b""
    signal: int = 0


@dataclass(frozen=True, slots=True)
class CoreNotes:
    """All that the notes of a core say; `own` is what minidumper adds as JSON."""

    process: ProcessInfo | None = None
    auxv: Mapping[int, int] = field(default_factory=dict)
    files: Sequence[MappedFile] = ()
    threads: Sequence[CoreThread] = ()
    own: Mapping[str, object] | None = None


def pack_notes(notes: CoreNotes) -> bytes:
    """The bytes of a PT_NOTE segment; readers look at the first of the threads first."""
    process = notes.process or ProcessInfo(0)
    parts = [
        pack_note(b"CORE", NT_PRPSINFO, _pack_process(process)),
        pack_note(b"CORE", NT_AUXV, _pack_auxv(notes.auxv)),
        pack_note(b"CORE", NT_FILE, _pack_files(notes.files)),
    ]
    for thread in notes.threads:
        parts += _pack_thread(thread, process)
    if notes.own is not None:
        parts.append(pack_note(OWN_NOTE_NAME, OWN_NOTE_TYPE, _pack_json(notes.own)))
    return b"".join(parts)


def pack_own(own: Mapping[str, object], size: int) -> bytes:
    """The own note, `size` bytes in all, a multiple of 4: JSON allows the spaces at its end.

    Raises:
        CaptureError: it does not fit.
    """
    content = _pack_json(own)
    room = size - len(pack_note(OWN_NOTE_NAME, OWN_NOTE_TYPE, b""))
    if len(content) > room:
        raise CaptureError(
            f"the own note needs {len(content)} bytes where {room} were kept free", stage="layout"
        )
    return pack_note(OWN_NOTE_NAME, OWN_NOTE_TYPE, content.ljust(room))


def _pack_json(own: Mapping[str, object]) -> bytes:
    text = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _pack_process(process: ProcessInfo) -> bytes:
    return _PRPSINFO.pack(
        *(0, b"R", 0, 0, 0, process.uid, process.gid),
        *(process.pid, process.ppid, process.pid, 0),
        _encoded(process.name)[:_FNAME_MAX],
        _encoded(process.args)[:_PSARGS_MAX],
    )


def _pack_auxv(auxv: Mapping[int, int]) -> bytes:
    return b"".join(_AUXV_ENTRY.pack(*entry) for entry in (*auxv.items(), (0, 0)))


def _pack_files(files: Sequence[MappedFile]) -> bytes:
    kept = [file for file in files if _has_file(file.path)]
    rows = [_FILE_ROW.pack(f.start, f.end, f.offset // PAGE_SIZE) for f in kept]
    names = [_encoded(file.path) + b"\0" for file in kept]
    return b"".join((_FILE_HEADER.pack(len(kept), PAGE_SIZE), *rows, *names))


def _has_file(path: str) -> bool:
    """Whether a reader may look for the path: not deleted files, nor the JIT's memfd mappings."""
    return path.startswith("/") and not path.startswith("/memfd:") and not path.endswith(_DELETED)


def _pack_thread(thread: CoreThread, process: ProcessInfo) -> Iterator[bytes]:
    fpregs = thread.regsets.get(NT_FPREGSET)
    xstate = thread.regsets.get(NT_X86_XSTATE)
    status = _PRSTATUS.pack(
        *(thread.signal, 0, 0, thread.signal, 0, 0),
        # The process group is that of the process itself: ClrMD takes its id from there.
        *(thread.tid, process.ppid, process.pid, 0),
        thread.regsets[NT_PRSTATUS],
        fpregs is not None,
    )
    yield pack_note(b"CORE", NT_PRSTATUS, status)
    if fpregs:
        yield pack_note(b"CORE", NT_FPREGSET, fpregs)
    if xstate:
        yield pack_note(b"LINUX", NT_X86_XSTATE, xstate)
    if thread.siginfo:
        yield pack_note(b"CORE", NT_SIGINFO, thread.siginfo)


def parse_notes(notes: Iterable[Note]) -> CoreNotes:
    """The records in the notes of a core; what other notes it has does not matter.

    Raises:
        DumpFormatError: a note is damaged.
    """
    process = None
    auxv: dict[int, int] = {}
    files: list[MappedFile] = []
    threads: list[CoreThread] = []
    own = None
    for note in notes:
        if note.name == OWN_NOTE_NAME and note.type == OWN_NOTE_TYPE:
            own = _parse_own(note)
        if note.name not in (b"CORE", b"LINUX"):
            continue
        if note.type == NT_PRPSINFO:
            process = _parse_process(note)
        elif note.type == NT_AUXV:
            auxv = _parse_auxv(note.content)
        elif note.type == NT_FILE:
            files += _parse_files(note)
            if len(files) > _MAX_FILES:
                raise _damaged(note, "too many files")
        elif note.type == NT_PRSTATUS:
            if len(threads) == _MAX_THREADS:
                raise _damaged(note, "too many threads")
            threads.append(_parse_thread(note))
        elif note.type in (NT_FPREGSET, NT_X86_XSTATE, NT_SIGINFO):
            if not threads:
                raise _damaged(note, "it belongs to no thread")
            threads[-1] = _with_note(threads[-1], note)
    return CoreNotes(process, auxv, tuple(files), tuple(threads), own)


def _parse_process(note: Note) -> ProcessInfo:
    fields = _unpacked(_PRPSINFO, note)
    uid, gid, pid, ppid = fields[5:9]
    return ProcessInfo(pid, ppid, uid, gid, *(_decoded(text) for text in fields[11:13]))


def _parse_auxv(content: bytes) -> dict[int, int]:
    auxv: dict[int, int] = {}
    size = min(len(content), _MAX_AUXV_SIZE) // _AUXV_ENTRY.size * _AUXV_ENTRY.size
    for key, value in _AUXV_ENTRY.iter_unpack(content[:size]):
        if not key:
            break
        auxv.setdefault(key, value)
    return auxv


def _parse_files(note: Note) -> Iterator[MappedFile]:
    count, page_size = _unpacked(_FILE_HEADER, note)
    rows_end = _FILE_HEADER.size + count * _FILE_ROW.size
    if rows_end > len(note.content) or count > _MAX_FILES:
        raise _damaged(note, f"{count} files do not fit")
    rows = _FILE_ROW.iter_unpack(note.content[_FILE_HEADER.size : rows_end])
    names = note.content[rows_end:].split(b"\0", count)
    if len(names) <= count:
        raise _damaged(note, "names of files are missing")
    for (start, end, page), name in zip(rows, names, strict=False):
        yield MappedFile(start, end, page * page_size, _decoded(name))


def _parse_thread(note: Note) -> CoreThread:
    fields = _unpacked(_PRSTATUS, note)
    return CoreThread(tid=fields[6], regsets={NT_PRSTATUS: fields[10]}, signal=fields[3])


def _with_note(thread: CoreThread, note: Note) -> CoreThread:
    if note.type == NT_SIGINFO:
        return thread._replace(siginfo=note.content)
    return thread._replace(regsets={**thread.regsets, note.type: note.content})


def _parse_own(note: Note) -> dict[str, object]:
    if len(note.content) > _MAX_OWN_SIZE:
        raise _damaged(note, f"{len(note.content)} bytes are too many")
    try:
        own = json.loads(note.content)
    except (ValueError, RecursionError) as err:
        raise _damaged(note, "its JSON cannot be read") from err
    if not isinstance(own, dict):
        raise _damaged(note, "its JSON is no object")
    return own


def _unpacked(layout: struct.Struct, note: Note) -> tuple[Any, ...]:
    if len(note.content) < layout.size:
        raise _damaged(note, f"{len(note.content)} bytes instead of {layout.size}")
    return layout.unpack_from(note.content)


def _damaged(note: Note, why: str) -> DumpFormatError:
    return DumpFormatError(f"damaged note of type 0x{note.type:x}: {why}", offset=note.offset)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decoded(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
