"""What the worker answers, as Python has it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..plan import CaptureWarning
from ..ranges import Reason, ReasonedRange


@dataclass(frozen=True, slots=True)
class ClrRegions:
    """What the CLR side needs of a stopped target, and what it told.

    `ranges` are page aligned, sorted and disjoint; parts of them may not be mapped. `facts` has
    `modules`, `threads` and `frames`, and unless it is a minimal one `can_walk` (False while a GC
    works, or a thread makes a large object), `server_gc`, `gc_regions`, `gc_heaps`, `gc_segments`
    and `gc_bytes` (sum of ClrMD's Segment.ObjectRange.Length).
    """

    ranges: list[ReasonedRange]
    facts: Mapping[str, Any]
    warnings: list[CaptureWarning]


class MissingRead(NamedTuple):
    """Bytes that an SOS command reads and a dump lacks; `address` is in the target."""

    address: int
    size: int
    command: str


class Inspection(NamedTuple):
    """What the readers of a dump find: `problems` has a line for each thing that they would not.

    `missing` are the reads that failed, each address once, 10,000 at most.

    `counts` has objects, unknown_objects, types, methods, threads, frames, modules, handles,
    finalizable, sync_blocks and missing_reads.
    """

    counts: dict[str, int]
    problems: tuple[str, ...]
    missing: tuple[MissingRead, ...] = ()


@dataclass(frozen=True, slots=True)
class HeapRow:
    """All objects of a type in a generation: gen0, gen1, gen2, loh, poh, frozen."""

    type: str
    module: str
    generation: str
    count: int
    size: int


class Assembly(NamedTuple):
    """A managed assembly: `version` is its own, `product` that of what it is a part of.

    What its metadata does not tell, or an assembly without a file does not have, is "" and 0.
    """

    path: str
    base: int
    version: str
    product: str


def unpack_ranges(columns: bytes) -> list[ReasonedRange]:
    """Columns of starts (u64), ends (u64) and reasons (u32)."""
    count = len(columns) // 20
    addresses = array("Q", columns[: 16 * count])
    reasons = array("I", columns[16 * count :])
    return [
        ReasonedRange(start, end, Reason(value))
        for start, end, value in zip(addresses[:count], addresses[count:], reasons, strict=True)
    ]
