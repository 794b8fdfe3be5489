"""What a minidump tells in its own way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import BinaryIO

from ..dbghelp.constants import MINIDUMP_STREAM_TYPE
from ..formats.minidump import OWN_STREAM, ExceptionInfo, Minidump
from ..formats.minidump_reader import read_minidump
from .records import Particulars, contents, exception_text

_ARCHITECTURES = {0: "x86", 5: "arm", 9: "x64", 12: "arm64"}
"""PROCESSOR_ARCHITECTURE_*, winnt.h."""


def particulars(file: BinaryIO) -> Particulars:
    """What the streams of a minidump tell."""
    dump = read_minidump(file)
    misc = dump.streams.misc
    made = datetime.fromtimestamp(dump.timestamp, UTC) if dump.timestamp else None
    return Particulars(
        # Which program called MiniDumpWriteDump is not told, only which dbghelp served it.
        writer=(misc.debugger_build if misc else "") or "MiniDumpWriteDump",
        architecture=_architecture(dump),
        time=made.isoformat(timespec="seconds") if made else "",
        stopped_by=_exception(dump.streams.exception),
        contents=contents((_stream_name(s.type), s.size) for s in dump.directory),
        comment=dump.streams.comment,
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
    return f"{exception_text(info.code, info.address)} in thread {info.tid}" if info else ""
