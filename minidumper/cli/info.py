"""What a dump file is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options, render, talk

if TYPE_CHECKING:
    from ..dumpinfo import DumpInfo, RuntimeRow

_LABEL_WIDTH = 12


@click.command(
    "info",
    help="Tell what a dump file is: who wrote it, of which process, what is in it and what it is "
    "good for. Any dump will do: minidumper's, createdump's, gcore's, the kernel's, dbghelp's.",
)
@options.DAC
@options.JSON
@options.QUIET
@options.VERBOSE
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
def command(dac: Sequence[Path], as_json: bool, quiet: bool, verbose: bool, file: Path) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from ..dumpinfo import dump_info

    info = dump_info(file, dac)
    if as_json:
        talk.data(info.as_dict())
    else:
        talk.listing(list(text(info)))


def text(info: DumpInfo) -> Iterator[str]:
    """A line a fact, then a table of the threads and one of the modules."""
    yield info.path
    for label, value in _facts(info):
        if value:
            yield f"  {label:<{_LABEL_WIDTH}}{render.one_line(value)}"
    if info.threads:
        yield ""
        yield from render.table([("THREAD", "STANDS IN"), *_threads(info)], left=(1,))
    if info.modules:
        yield ""
        heading = ("ADDRESS", "VERSION OR BUILD ID", "MODULE")
        yield from render.table([heading, *_modules(info)], left=(1, 2))


def _facts(info: DumpInfo) -> Iterator[tuple[str, str]]:
    yield "format", ", ".join(filter(None, (info.format, info.architecture)))
    yield "written by", info.writer or "unknown"
    yield "mode", info.mode or "not told by its writer"
    yield "time", info.time
    yield "process", f"{info.pid} {info.name}"
    yield "command", info.arguments
    yield from _runtime(info)
    yield "stopped by", info.stopped_by
    yield "comment", info.comment
    size, disk = render.size_text(info.size), render.size_text(info.disk_size)
    yield "size", f"{size}, {disk} on disk"
    yield "memory", f"{render.size_text(info.memory_size)} in {info.memory_blocks:,} blocks"
    yield "threads", f"{len(info.threads):,}"
    yield "modules", f"{len(info.modules):,}"
    yield "holds", ", ".join(f"{c.number} x {c.name}" for c in info.contents)
    for warning in info.warnings:
        yield "warning", warning


def _runtime(info: DumpInfo) -> Iterator[tuple[str, str]]:
    runtime = info.runtime
    if runtime is None:
        yield "runtime", "no .NET found in it"
        return
    server = info.facts.get("server_gc", runtime.server_gc)
    gc = "" if server is None else ", server GC" if server else ", workstation GC"
    yield "runtime", f".NET {runtime.version} ({runtime.kind}){gc}"
    yield "", runtime.path
    yield "build id", runtime.build_id
    yield "DAC", runtime.dac or runtime.dac_missing
    yield "", runtime.dac_hint
    if runtime.unreadable:
        yield "GC heap", f"cannot be read: {runtime.unreadable}"
    elif runtime.dac:
        yield "GC heap", _heap(runtime)
        yield "metadata", _metadata(runtime)


def _heap(runtime: RuntimeRow) -> str:
    if not runtime.heap_held:
        return "none: stacks can be read, objects cannot"
    held = f"{render.size_text(runtime.heap_held)} of {render.size_text(runtime.heap)}"
    whole = runtime.heap_held == runtime.heap
    return held + (": objects can be read" if whole else ": few objects can be read")


def _metadata(runtime: RuntimeRow) -> str:
    if not runtime.metadata_held:
        return "none: types have no names where the application's files are not at hand"
    held = render.size_text(runtime.metadata_held)
    return f"{held} of {render.size_text(runtime.metadata)}"


def _threads(info: DumpInfo) -> Iterator[tuple[str, str]]:
    for thread in info.threads:
        where = thread.place or (f"0x{thread.ip:x}" if thread.ip else "")
        yield str(thread.tid), f"{where}  {thread.name}".strip()


def _modules(info: DumpInfo) -> Iterator[tuple[str, str, str]]:
    for module in info.modules:
        key = module.version or module.build_id or "-"
        yield f"0x{module.base:x}", key, module.path or "(in memory)"
