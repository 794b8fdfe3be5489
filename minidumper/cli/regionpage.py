"""The regions as one page for a browser: regions.html with the data in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING

from .._version import __version__
from ..ranges import PAGE_SIZE, Reason
from . import render

if TYPE_CHECKING:
    from ..regionmap import RegionMap

_PLACE = "/*DATA*/"


def page(found: RegionMap) -> str:
    """The whole page; it asks for nothing else."""
    template = files(__package__).joinpath("regions.html").read_text(encoding="utf-8")
    text = json.dumps(_data(found), separators=(",", ":"))
    # A path may hold "</script>": in a script element only "<" can end it or begin a comment.
    return template.replace(_PLACE, text.replace("<", "\\u003c"))


def _data(found: RegionMap) -> dict[str, object]:
    paths: dict[str, int] = {}
    protections: dict[str, int] = {}
    rows = list(_rows(found, paths, protections))
    estimate = found.estimate
    return {
        "name": found.name,
        "source": found.source,
        "pid": found.pid,
        "mode": found.mode.value,
        "runtime": str(found.facts.get("runtime", "")),
        "by": f"minidumper {__version__}",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "reasons": [[int(reason), render.REASONS[reason]] for reason in Reason],
        "disk_size": estimate.disk_size if estimate else None,
        "pause_s": estimate.pause_s if estimate else None,
        "warnings": list(found.warnings),
        "page": PAGE_SIZE,
        "paths": list(paths),
        "protections": list(protections),
        "rows": rows,
    }


def _rows(
    found: RegionMap, paths: dict[str, int], protections: dict[str, int]
) -> Iterator[list[int]]:
    """Pages from the end of the row before, pages, resident pages, protection, path, reasons.

    Distances keep 20,000 rows below a megabyte, and every number exact: addresses above 2**53
    are none that JavaScript's numbers can hold.
    """
    before = 0
    for row in found.rows:
        yield [
            (row.start - before) // PAGE_SIZE,
            row.size // PAGE_SIZE,
            -(-row.resident // PAGE_SIZE),
            protections.setdefault(row.protection, len(protections)),
            paths.setdefault(row.path, len(paths)),
            int(row.reasons),
        ]
        before = row.end
