"""Reports as text of at most 80 columns, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..naming import STANDARD_OUTPUT
from ..plan import CaptureWarning
from ..ranges import Reason
from ..report import CaptureReport, Way

if TYPE_CHECKING:  # these load the CLR side
    from ..demo import DemoReport
    from ..verification import VerifyReport

REASONS = {
    Reason.GC_HEAP: "GC heap",
    Reason.GC_BOOKKEEPING: "GC bookkeeping",
    Reason.HANDLE_TABLE: "handle tables",
    Reason.LOADER_HEAP: "loader heaps",
    Reason.JIT_CODE: "JIT code",
    Reason.STUBS: "stubs",
    Reason.RUNTIME_DATA: "runtime data",
    Reason.STACK: "stacks",
    Reason.MODULE_HEADER: "module headers",
    Reason.METADATA: "metadata",
    Reason.MODIFIED_IMAGE: "modified images",
    Reason.DAC_READ: "read by the DAC",
    Reason.ALL_MEMORY: "all memory",
}

_WAYS = {
    Way.STOP: "of it",
    Way.COPY: "after, from a copy in memory",
    Way.SNAPSHOT: "after, from a snapshot",
}

_LISTED_PROBLEMS = 20
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def as_json(value: object) -> str:
    """Indented JSON, as it is for machines and still read by people."""
    return json.dumps(value, indent=2)


def one_line(text: str) -> str:
    """What a process says, as nothing that a terminal obeys."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def size_text(size: int) -> str:
    """Bytes for people: 1 MB is 1,000,000 bytes."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def time_text(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lines of columns: those of `left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def warning_text(warning: CaptureWarning) -> str:
    """One line."""
    return f"warning: {warning.stage}: {warning.message}"


def dump_text(report: CaptureReport) -> str:
    """A report: where, what of, how large, how long, what is in it, what went not as usual."""
    runtime = report.clr.get("runtime")
    path, where = report.path, "on disk"
    if path == STANDARD_OUTPUT:
        path, where = "standard output", "sent"
    lines = [
        path,
        f"  {report.mode.value} dump of process {report.pid} ({one_line(report.name)})"
        + (f", .NET {runtime}" if runtime else ""),
        f"  {size_text(report.size)}, {size_text(report.disk_size)} {where}",
        f"  the process stood still for {time_text(report.pause_s)}, "
        f"writing took {time_text(report.write_s)} {_WAYS[report.way]}",
    ]
    if report.way is Way.SNAPSHOT and report.copied_on_write is not None:
        lines.append(f"  meanwhile it had to copy {size_text(report.copied_on_write)} as it wrote")
    rows = [(REASONS[reason], size_text(size)) for reason, size in report.totals.items()]
    lines += [f"    {line}" for line in table(rows)]
    lines += [f"  {warning_text(warning)}" for warning in report.warnings]
    return "\n".join(lines)


def verify_text(report: VerifyReport) -> str:
    """What was read, and what could not be."""
    lines = [report.path, f"  .NET {report.runtime or 'not found'}"]
    if report.counts:
        objects, types, threads, frames, modules = (
            f"{(count := report.counts.get(name, 0)):,} {name[:-1] if count == 1 else name}"
            for name in ("objects", "types", "threads", "frames", "modules")
        )
        lines.append(f"  {objects} of {types}, {threads} with {frames}, {modules}")
    lines += [f"  problem: {problem}" for problem in report.problems[:_LISTED_PROBLEMS]]
    more = len(report.problems) - _LISTED_PROBLEMS
    if more > 0:
        lines.append(f"  and {more} problems more; --json lists them")
    elif not report.problems:
        lines.append("  all of it can be read")
    return "\n".join(lines)


def demo_text(report: DemoReport, *, kept: bool) -> str:
    """The dumps side by side, by reason, and the heap dump read back."""
    dumps = report.dumps
    first = dumps[0]
    rows = [
        ("", *(dump.mode.value for dump in dumps)),
        ("file", *(size_text(dump.size) for dump in dumps)),
        ("on disk", *(size_text(dump.disk_size) for dump in dumps)),
        ("pages by reason", *("" for _ in dumps)),
    ]
    for reason, name in REASONS.items():
        sizes = [dump.totals.get(reason, 0) for dump in dumps]
        if any(sizes):
            rows.append((f"  {name}", *(size_text(size) if size else "-" for size in sizes)))
    lines = [
        f"A demo program ran on .NET {first.clr['runtime']} as process {first.pid}. It stood still",
        f"for {time_text(first.pause_s)} while these {len(dumps)} dumps of it were written:",
        "",
        *table(rows),
        "",
    ]
    if report.createdump_size is not None:
        theirs = size_text(report.createdump_size)
        lines += [f"The heap dump of the runtime's own createdump takes {theirs}.", ""]
    lines += ["The heap dump read back:", *verify_text(report.verified).splitlines()[1:]]
    if kept:
        lines += ["", *(dump.path for dump in dumps)]
    return "\n".join(lines)
