"""The .NET processes of this machine, from what /proc tells about each (proc(5))."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ...errors import AccessDeniedError
from ...target import VmRegion
from ..finding import DotnetProcess
from . import access
from .procfs import Status, parse_maps, parse_status

_RUNTIME = re.compile(rb"^\S+ \S+ 0+ \S+ \d+ +(/.*/libcoreclr\.so)(?: \(deleted\))?$", re.MULTILINE)
_THREAD_NAME = ".NET "
"""What the runtime's own threads are called since .NET 5: src/coreclr/vm/threads.cpp."""
_SERVER_GC_THREAD = ".NET Server GC"
_SERVER_GC_VARIABLE = b"COMPlus_gcServer="
_SERVER_GC_SETTING = "System.GC.Server"
"""How it is chosen: https://learn.microsoft.com/dotnet/core/runtime-config/garbage-collector"""
_ASSEMBLY = re.compile(rb"^\S+ \S+ 0+ \S+ \d+ +(/.*)\.dll$", re.MULTILINE)
_FIRST_THREADS = 8  # the runtime starts the first of its own threads before anything else
_NAMES_READ = 512  # a server GC has a thread or two for each processor, early on
_GC_RESERVE = 8 << 30
"""Bytes: with regions the GC reserves 256 GB or twice the memory there is (gcconfig.h)."""
_GC_HOLE = 64 << 20  # between the GC's bookkeeping, reserved before its heap, and the heap
_MAX_SETTINGS = 1 << 20  # bytes; real ones have about a kilobyte
_CONTAINER = re.compile(r"[0-9a-f]{64}")  # what docker, containerd and CRI-O name groups by


def dotnet_processes() -> Iterator[DotnetProcess]:
    """All .NET processes; those that cannot be looked into tell what their own files let see."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                found = _dotnet_process(int(name))
                if found:
                    yield found


def _dotnet_process(pid: int) -> DotnetProcess | None:
    try:
        maps = _read(pid, "maps")
    except PermissionError:
        maps = b""
    runtime = _RUNTIME.search(maps)
    threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    if not runtime and not (
        _has_dotnet_thread(pid, threads[1:_FIRST_THREADS]) or (not maps and _is_host(pid))
    ):
        return None
    status = parse_status(_read(pid, "status").decode("utf-8", "replace"))
    names = [_thread_name(pid, thread) for thread in threads[:_NAMES_READ]]
    named = any(name.startswith(_THREAD_NAME) for name in names)
    return DotnetProcess(
        pid=pid,
        namespace_pid=status.namespace_pid,
        user=_user(status.uid),
        name=status.name,
        arguments=tuple(os.fsdecode(_read(pid, "cmdline")).rstrip("\0").split("\0")),
        runtime=os.fsdecode(runtime[1]) if runtime else "",
        root=f"/proc/{pid}/root",
        server_gc=_SERVER_GC_THREAD in names if named else _chosen_server_gc(pid, maps),
        heap=_committed_heap(parse_maps(maps)),
        rss=status.rss,
        container=_container(pid),
        missing=_missing(pid, status),
    )


def _has_dotnet_thread(pid: int, threads: Sequence[int]) -> bool:
    return any(_thread_name(pid, thread).startswith(_THREAD_NAME) for thread in threads)


def _is_host(pid: int) -> bool:
    """Whether dotnet runs a program here; before .NET 5 threads carry no names of their own."""
    arguments = _read(pid, "cmdline").split(b"\0")
    return os.path.basename(arguments[0]) == b"dotnet" and any(
        word.endswith(b".dll") for word in arguments[1:]
    )


def _thread_name(pid: int, thread: int) -> str:
    try:
        return _read(pid, f"task/{thread}/comm").decode("utf-8", "replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
        return ""


def _chosen_server_gc(pid: int, maps: bytes) -> bool | None:
    """What its variables or else its settings say: before .NET 5 the threads tell nothing."""
    with suppress(OSError, ValueError):
        for variable in _read(pid, "environ").split(b"\0"):
            if variable.startswith(_SERVER_GC_VARIABLE):
                return int(variable.partition(b"=")[2], 16) != 0
    for name in dict.fromkeys(_ASSEMBLY.findall(maps)):
        settings = f"/proc/{pid}/root{os.fsdecode(name)}.runtimeconfig.json"
        with suppress(OSError, ValueError, AttributeError), open(settings, "rb") as file:
            options = json.loads(file.read(_MAX_SETTINGS))["runtimeOptions"]
            return options.get("configProperties", {}).get(_SERVER_GC_SETTING) is True
    return None


def _committed_heap(regions: Sequence[VmRegion]) -> int | None:
    """Bytes that the GC has committed, about; None where its reserved range is not to be seen.

    The heap lies before the rest of the range, which is by far the largest hole of the process.
    """
    end = next(
        (
            index
            for index, region in enumerate(regions)
            if region.protection == "---p" and region.size >= _GC_RESERVE
        ),
        None,
    )
    if end is None:
        return None
    size = 0
    after = regions[end].start
    for region in reversed(regions[:end]):
        hole = region.protection == "---p"
        if region.end != after or region.inode or (hole and region.size >= _GC_HOLE):
            break
        size += 0 if hole else region.size
        after = region.start
    return size


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of a container
        return str(uid)


def _container(pid: int) -> str:
    """The first 12 digits of the id of the container that the process is in, "" for none."""
    found = _CONTAINER.search(os.fsdecode(_read(pid, "cgroup")))
    return found[0][:12] if found else ""


def _missing(pid: int, status: Status) -> str:
    """Why a capture would fail at its first step, "" when it would not."""
    if status.tracer_pid:
        return f"traced by process {status.tracer_pid}"
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        error = access.denied(pid, status)
        return f"no access ({error.gate})" if isinstance(error, AccessDeniedError) else str(error)
    return ""


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read()
