"""Every gate between us and a heap dump of a process, in order, each with what opens it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import platforms
from .clr.dac import find_dac
from .clr.host import find_host
from .clr.runtime import Runtime, find_runtime
from .errors import (
    DacNotFoundError,
    DacUntrustedError,
    HostRuntimeNotFoundError,
    MiniDumperError,
    NoClrInTargetError,
    TargetError,
)
from .plan import DumpMode
from .planning import Planner
from .platforms.gates import Gate, State, gate
from .ranges import MemoryRange, joined
from .target import LiveTarget

_MARGIN = 16 << 20
"""Bytes that must stay free beside a dump or a copy, as in a capture."""


def examine(process: int | None = None, dac: Sequence[Path] = ()) -> Iterator[Gate]:
    """The gates to process `process`, or without one those that are the same for every process.

    A capture is not tried where an earlier gate that it needs is closed; the target is stopped
    for a moment where none is. `dac` is where to look for the DAC.

    Raises:
        UnsupportedTargetError: minidumper does not run on this system.
    """
    closed = False
    gates = platforms.own_gates() if process is None else platforms.process_gates(process)
    for item in gates:
        closed |= item.state is State.FAILED
        yield item
    if process is None:
        yield _host()
        yield _disk(0)
        yield _memory(0)
    elif closed:
        yield _host()
    else:
        try:
            with platforms.open_target(process) as target:
                yield from _inside(target, dac)
        except TargetError as err:
            yield _failed("access", err)
    yield from platforms.waiting_gates()


def rescue(process: int) -> int:
    """Let a process run that a dead .NET debugger left stopped; how often it was found so.

    Raises:
        TargetError, ClrError, CaptureError: it cannot be freed.
    """
    with platforms.open_target(process) as target:
        runtime = find_runtime(target)
        if runtime is None:
            raise NoClrInTargetError(f"process {process} ({target.name}) has no .NET runtime in it")
        return platforms.rescue(process, runtime.version)


def _inside(target: LiveTarget, dac: Sequence[Path]) -> Iterator[Gate]:
    """The gates that only someone with access can see."""
    runtime = find_runtime(target)
    gates = [*_clr(target, runtime, dac), _host()]
    yield from gates
    if runtime:
        yield from platforms.debugger_gates(target.pid, runtime.version)
    if any(item.state is State.FAILED for item in gates):
        size = _size(target)
    else:
        plan, size = _plan(target, dac)
        yield plan
    yield _disk(size)
    yield _memory(size)


def _clr(target: LiveTarget, runtime: Runtime | None, dac: Sequence[Path]) -> Iterator[Gate]:
    if runtime is None:
        text = "no .NET runtime is in it: -mm and -ma work for any process"
        yield gate("runtime", False, text, _everywhere("minidumper -ma …"))
        return
    yield gate("runtime", True, f".NET {runtime.version} ({runtime.kind.value}) at {runtime.path}")
    try:
        with find_dac(runtime, dac, Path(target.root or "/"), user=target.user) as found:
            yield gate("DAC", True, f"{found.path}")
            yield gate("DAC trusted", True, "only its user and root can write there")
    except (DacNotFoundError, NoClrInTargetError) as err:
        yield _failed("DAC", err)
    except DacUntrustedError as err:
        yield gate("DAC", True, "one that matches was found")
        yield _failed("DAC trusted", err)


def _host() -> Gate:
    try:
        return gate("host", True, f".NET to read it with: {find_host().dotnet_root}")
    except HostRuntimeNotFoundError as err:
        return _failed("host", err)


def _plan(target: LiveTarget, dac: Sequence[Path]) -> tuple[Gate, int]:
    """The proof: stop it, name all that a heap dump holds, let it go; and the dump's bytes."""
    try:
        with Planner(
            target, [DumpMode.HEAP], dac=dac, root=target.root, user=target.user
        ) as planner:
            planner.rehearse()
            began = time.perf_counter()
            with target.stopped():
                regions = target.regions()
                plan = planner.plan(DumpMode.HEAP, regions, target.threads(), committed=True)
            pause = time.perf_counter() - began
    except MiniDumperError as err:
        return _failed("stop and plan", err), _size(target)
    size = sum(run.size for block in joined(plan.ranges) for run in target.resident(regions, block))
    text = f"held for {pause * 1000:.0f} ms; a heap dump has about {size / 1e6:,.1f} MB"
    return gate("stop and plan", True, text), size


def _size(target: LiveTarget) -> int:
    """Bytes of memory that a dump of any mode holds at most."""
    regions = target.regions()
    return sum(
        run.size
        for region in regions
        if region.readable and not region.is_file
        for run in target.resident(regions, MemoryRange(region.start, region.end))
    )


def _disk(size: int) -> Gate:
    folder = Path.cwd()
    free = platforms.backend().free_space(str(folder / "dump"))
    text = f"{free / 1e6:,.0f} MB free in {folder}" + (
        f", {size / 1e6:,.1f} needed" if size else ""
    )
    fixes = _everywhere("minidumper … -o FOLDER, on a disk with more space")
    return gate("disk", free >= size + _MARGIN, text, fixes)


def _memory(size: int) -> Gate:
    free, whose = platforms.backend().free_memory()
    text = f"{free / 1e6:,.0f} MB by {whose}" + (f", {size / 1e6:,.1f} needed" if size else "")
    fixes = {
        "shell": "leave out --async",
        "docker": "leave out --async, or docker update --memory=SIZE CONTAINER",
        "kubernetes": "leave out --async, or raise resources.limits.memory",
    }
    return gate("memory for --async", free >= size + _MARGIN, text, fixes, blocks=False)


def _failed(name: str, err: MiniDumperError) -> Gate:
    return gate(name, False, str(err), _everywhere(err.hint) if err.hint else {})


def _everywhere(fix: str) -> dict[str, str]:
    return dict.fromkeys(("shell", "docker", "kubernetes"), fix)
