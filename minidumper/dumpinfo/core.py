"""What an ELF core tells in its own way."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ..dumpfile import DumpFile
from ..errors import MemoryFaultError
from ..formats.elf import Note
from ..formats.elfcore import (
    SPECIAL_DIAG_INFO_ADDRESS,
    SpecialDiagInfo,
    parse_special_diag_info,
    read_notes,
)
from ..formats.elfnotes import NT_AUXV, NT_FILE, NT_PRPSINFO, NT_PRSTATUS, OWN_NOTE_NAME
from ..target import ThreadInfo
from .records import Particulars, contents, exception_text

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
_TELLING = 3  # notes whose order tells the writer
_EXCEPTION_RECORD = struct.Struct("<IIQQ")  # EXCEPTION_RECORD, winnt.h: code to address
_SIGINFO = struct.Struct("<iii4xQ")  # siginfo_t, sigaction(2): signo, errno, code, si_addr
_WITH_ADDRESS = (signal.SIGILL, signal.SIGFPE, signal.SIGSEGV)


def particulars(dump: DumpFile, file: BinaryIO) -> Particulars:
    """What the notes of a core tell."""
    first: list[int] = []
    by_gdb = False

    def seen() -> Iterator[tuple[str, int]]:  # each note only once: there can be 20 million
        nonlocal by_gdb
        for note in read_notes(file):
            if len(first) < _TELLING:
                first.append(note.type)
            by_gdb |= note.name == b"GDB"
            yield _note_name(note), len(note.content)

    found = contents(seen())
    return Particulars(
        writer="gdb (gcore)" if by_gdb else _writer(first),
        architecture="x64",
        time="",
        stopped_by=_signal(dump.threads()) or _exception(dump),
        contents=found,
    )


def _writer(kinds: Sequence[int]) -> str:
    """Who wrote a core without our note, by the order of his notes."""
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


def _exception(dump: DumpFile) -> str:
    """The exception that createdump was called for: its page has the record's address."""
    info = _diag_info(dump)
    if info is None or not info.exception_record:
        return ""
    try:
        record = dump.memory.read(info.exception_record, _EXCEPTION_RECORD.size)
    except MemoryFaultError:
        return f"an exception whose record at 0x{info.exception_record:x} is not in the file"
    code, _, _, address = _EXCEPTION_RECORD.unpack(record)
    return exception_text(code, address)


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


def _note_name(note: Note) -> str:
    if note.name == OWN_NOTE_NAME:
        return "minidumper"
    return _NOTE_NAMES.get(note.type) or f"{note.name.decode('ascii', 'replace')} 0x{note.type:x}"
