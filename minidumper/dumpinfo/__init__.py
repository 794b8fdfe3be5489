"""What a dump file is: who wrote it, of which process, what is in it and what it is good for."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BufferedReader
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from ..clr.answers import Assembly
from ..dumpfile import DumpFile, open_bytes, open_dump
from ..errors import DumpFormatError, MemoryFaultError
from ..formats.elfimage import build_id, read_image
from ..formats.minidump import MAGIC
from ..formats.peimage import read_pe
from ..ranges import Reason, ReasonedRange
from ..target import ModuleInfo
from . import core, windows
from .records import DumpInfo, ModuleRow, RuntimeRow, ThreadRow
from .runtime import look

__all__ = ["DumpInfo", "RuntimeRow", "dump_info"]

_Span = tuple[int, int, str]  # start, end, what it is


def dump_info(path: str | os.PathLike[str], dac: Sequence[Path] = ()) -> DumpInfo:
    """What a dump file is, of any writer; `dac` are files and folders that may have its DAC.

    Raises:
        DumpFormatError: it cannot be opened, is no dump of a known format, is cut or damaged.
    """
    with open_dump(path) as dump:
        try:
            with open_bytes(path) as file:
                buffered = file if isinstance(file, BufferedReader) else BufferedReader(file)
                return _info(dump, buffered, dac)
        except OSError as err:
            raise DumpFormatError(f"cannot read {dump.path}: {err.strerror}") from err


def _info(dump: DumpFile, file: BinaryIO, dac: Sequence[Path]) -> DumpInfo:
    stat = os.fstat(file.fileno())
    is_minidump = file.read(len(MAGIC)) == MAGIC
    told = windows.particulars(file) if is_minidump else core.particulars(dump, file)
    own = dump.note or {}
    blocks = dump.memory_source().table
    found = look(dump, dac)
    return DumpInfo(
        path=dump.path,
        size=stat.st_size,
        # st_blocks counts 512 bytes, stat(2); Windows has none.
        disk_size=getattr(stat, "st_blocks", -(-stat.st_size // 512)) * 512,
        format=("minidump" if is_minidump else "ELF core")
        + (", compressed (zstd)" if dump.memory_source().frames else ""),
        architecture=told.architecture,
        writer=f"minidumper {_text(own.get('version'))}".strip() if own else told.writer,
        mode=_text(own.get("mode")),
        time=_text(own.get("time")) or told.time or _iso(stat.st_mtime),
        pid=dump.pid,
        name=dump.name,
        arguments=dump.process.args.strip() if dump.process else "",
        threads=list(_threads(dump, found.ranges)),
        modules=_modules(dump, found.assemblies),
        stopped_by=_own_moment(own) or told.stopped_by,
        contents=told.contents,
        memory_blocks=len(blocks),
        memory_size=sum(end - start for start, end, _ in blocks),
        warnings=_own_warnings(own),
        facts=_own_facts(own),
        comment=told.comment or _text(own.get("comment")),
        runtime=found.runtime,
    )


def _threads(dump: DumpFile, ranges: Sequence[ReasonedRange]) -> Iterator[ThreadRow]:
    """The threads; `ranges` tell which code the runtime made, sorted."""
    images = [(image.base, image.end, image.path) for image in dump.images()]
    made = [
        (item.start, item.end, "JIT code" if item.reasons & Reason.JIT_CODE else "a stub")
        for item in ranges
        if item.reasons & (Reason.JIT_CODE | Reason.STUBS)
    ]
    for thread in dump.threads():
        place = ""
        if image := _span_at(images, thread.ip):
            base, _, path = image
            name = path.replace("\\", "/").rpartition("/")[2]
            place = f"{name}+0x{thread.ip - base:x}"
        elif code := _span_at(made, thread.ip):
            place = f"{code[2]} at 0x{thread.ip:x}"
        yield ThreadRow(thread.tid, thread.ip, thread.sp, thread.name, place)


def _span_at(spans: Sequence[_Span], address: int) -> _Span | None:
    at = bisect_right(spans, address, key=itemgetter(0)) - 1
    return spans[at] if at >= 0 and address < spans[at][1] else None


def _modules(dump: DumpFile, assemblies: Sequence[Assembly]) -> list[ModuleRow]:
    """The modules of the file, and assemblies that are none: of a bundle, or made in memory."""
    rows = {row.path: row for row in (_module(dump, module) for module in dump.modules())}
    for path, base, version, product in assemblies:
        key = path or f"0x{base:x}"  # without a file there is no path
        row = rows.get(key) or ModuleRow(path, base, base)
        # What follows a plus sign is the commit that it was built from (semver.org, 10).
        shown = row.version or product.partition("+")[0] or version
        rows[key] = row._replace(version=shown, assembly_version=version)
    return sorted(rows.values(), key=lambda row: row.base)


def _module(dump: DumpFile, module: ModuleInfo) -> ModuleRow:
    """A module with its GNU build id, or the key that symbol servers have a PE image under."""
    key = module.build_id
    try:
        image = read_image(dump.memory.read, module.base)
        if image:
            key = build_id(image)
        elif pe := read_pe(dump.memory.read, module.base):
            key = pe.build_id
    except MemoryFaultError:  # its headers or notes are not in the file
        pass
    return ModuleRow(module.path, module.base, module.end, module.version, key)


def _own_moment(own: Mapping[str, object]) -> str:
    """What the process was held at while we waited for it."""
    exception = own.get("exception")
    if not isinstance(exception, Mapping):
        line = _text(own.get("line"))
        return _text(own.get("trigger")) + (f' "{line}"' if line else "")
    type_, message = (_text(exception.get(key)) for key in ("type", "message"))
    said = f' ("{message}")' if message else ""
    when = "thrown" if exception.get("chance") == 1 else "unhandled"
    address = exception.get("address")
    place = f", object 0x{address:x}" if isinstance(address, int) and address else ""
    return f"{type_}{said} {when} in thread {exception.get('tid')}{place}"


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
    facts |= {key: own[key] for key in ("pause_s", "way", "totals") if key in own}
    return facts


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
