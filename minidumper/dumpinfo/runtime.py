"""The runtime in a dump, the DAC that its readers need, and whether its heap is in the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..clr.client import ClrClient
from ..clr.dac import find_dac
from ..clr.runtime import find_runtime
from ..dumpfile import DumpFile
from ..errors import ClrError, DacNotFoundError, DacUntrustedError, NoClrInTargetError
from ..ranges import MemoryRange, Reason, ReasonedRange, clip
from .records import RuntimeRow


def runtime_row(dump: DumpFile, search: Sequence[Path]) -> RuntimeRow | None:
    """The runtime, None where there is none; `search` are files and folders with a DAC."""
    runtime = find_runtime(dump)
    if runtime is None:
        return None
    row = RuntimeRow(runtime.kind.value, runtime.version, runtime.path, runtime.build_id)
    try:
        with find_dac(runtime, search) as dac:
            row = row._replace(dac=str(dac.path))
            with ClrClient.start(dump, runtime, dac) as client:
                wanted = client.collect(dump.threads()).ranges
    except (DacNotFoundError, DacUntrustedError, NoClrInTargetError) as err:
        return row._replace(dac_missing=str(err), dac_hint=err.hint)
    except ClrError as err:
        return row._replace(unreadable=str(err))
    held = clip(wanted, [MemoryRange(r.start, r.end) for r in dump.regions()])
    return row._replace(
        heap=_size(wanted, Reason.GC_HEAP),
        heap_held=_size(held, Reason.GC_HEAP),
        metadata=_size(wanted, Reason.METADATA),
        metadata_held=_size(held, Reason.METADATA),
    )


def _size(ranges: Sequence[ReasonedRange], reason: Reason) -> int:
    return sum(item.size for item in ranges if item.reasons & reason)
