"""The runtime in a dump, the DAC that its readers need, and what that finds in the file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..clr.answers import Assembly
from ..clr.client import ClrClient
from ..clr.dac import find_dac
from ..clr.runtime import Runtime, find_runtime
from ..dumpfile import DumpFile
from ..errors import (
    ClrError,
    DacNotFoundError,
    DacUntrustedError,
    MemoryFaultError,
    NoClrInTargetError,
)
from ..formats.elfimage import lookup_symbol, read_image
from ..ranges import MemoryRange, Reason, ReasonedRange, clip
from .records import RuntimeRow

_DAC_TABLE = "g_dacTable"
"""DACCESS_TABLE_SYMBOL, src/coreclr/inc/daccess.h."""


class Look(NamedTuple):
    """The runtime, None where there is none, and what its DAC tells, where there is one."""

    runtime: RuntimeRow | None = None
    assemblies: Sequence[Assembly] = ()
    ranges: Sequence[ReasonedRange] = ()


def look(dump: DumpFile, search: Sequence[Path]) -> Look:
    """What there is of a runtime; `search` are files and folders that may have its DAC."""
    runtime = find_runtime(dump)
    if runtime is None:
        return Look()
    row = RuntimeRow(runtime.kind.value, runtime.version, runtime.path, runtime.build_id)
    try:
        with find_dac(runtime, search) as dac:
            row = row._replace(dac=str(dac.path))
            with ClrClient.start(dump, runtime, dac) as client:
                found = client.collect(dump.threads())
                assemblies = client.assemblies()
    except (DacNotFoundError, DacUntrustedError, NoClrInTargetError) as err:
        return Look(row._replace(dac_missing=str(err), dac_hint=err.hint))
    except ClrError as err:
        return Look(row._replace(unreadable=_why_not(dump, runtime) or str(err)))
    wanted = found.ranges
    held = clip(wanted, [MemoryRange(r.start, r.end) for r in dump.regions()])
    row = row._replace(
        server_gc=found.facts.get("server_gc"),
        heap=_size(wanted, Reason.GC_HEAP),
        heap_held=_size(held, Reason.GC_HEAP),
        metadata=_size(wanted, Reason.METADATA),
        metadata_held=_size(held, Reason.METADATA),
    )
    return Look(row, assemblies, wanted)


def _why_not(dump: DumpFile, runtime: Runtime) -> str:
    """Whether the file lacks the table that the DAC begins with, among pages never written to."""
    if not runtime.is_elf:
        return ""
    read = dump.memory.read
    with suppress(MemoryFaultError):
        image = read_image(read, runtime.base)
        if image and lookup_symbol(image, _DAC_TABLE):
            return ""
    return (
        f"the pages of {runtime.name} are not in the file: the kernel writes those of files only "
        "where the process's coredump_filter has bit 2, core(5)"
    )


def _size(ranges: Sequence[ReasonedRange], reason: Reason) -> int:
    return sum(item.size for item in ranges if item.reasons & reason)
