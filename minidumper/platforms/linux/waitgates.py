"""The gates to what waiting takes besides ptrace; without them less is had, or it costs more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..gates import Gate, gate
from . import libc

_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_LEVEL = 2
"""The highest at which everybody may watch processes of his own: perf_event_open(2)."""

_BY_LEVEL = f"sudo minidumper …, or: sudo sysctl kernel.perf_event_paranoid={_LEVEL}"
_BY_FILTER = "a seccomp filter forbids it (systemd: SystemCallFilter=perf_event_open allows it)"
_DISMISSES_SINCE = (6, 10)  # from then on a program's 0 keeps the signal back, too


def waiting_gates() -> Iterator[Gate]:
    """What exceptions take where they are thrown (`-e 1`, `-l`); all else takes ptrace alone."""
    yield breakpoint_gate()
    yield filter_gate()


def breakpoint_gate() -> Gate:
    """Whether we may have a hardware breakpoint: one is set in ourselves."""
    try:
        os.close(libc.open_breakpoint())
    except OSError as err:
        why = os.strerror(err.errno or 0)
        level = _paranoid()
        text = (
            f"perf_event_open(2) refuses hardware breakpoints ({why}; kernel.perf_event_paranoid: "
            f"{'none' if level is None else level}): "
            "-e 1 as a debugger, 3 to 16 ms an exception"
        )
        fixes = {
            "shell": _BY_LEVEL if level is None or level > _LEVEL else _BY_FILTER,
            "docker": "docker run --cap-add=PERFMON --cap-add=SYS_PTRACE …",
            "kubernetes": "securityContext: {capabilities: {add: [PERFMON, SYS_PTRACE]}}",
        }
        return gate("breakpoints", False, text, fixes, blocks=False)
    return gate("breakpoints", True, "-e 1 can stop exceptions where they are thrown", blocks=False)


def filter_gate() -> Gate:
    """Whether a BPF program can dismiss types of exceptions before they stop."""
    fixes = {
        "shell": "sudo minidumper …",
        "docker": "docker run --cap-add=BPF --cap-add=PERFMON --cap-add=SYS_PTRACE …",
        "kubernetes": "securityContext: {capabilities: {add: [BPF, PERFMON, SYS_PTRACE]}}",
    }
    cost = "-e 1 --type costs 50 to 95 us an exception, not 11 to 19"
    release = os.uname().release
    version = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if version < _DISMISSES_SINCE:
        fixes = dict.fromkeys(fixes, "Linux 6.10 or newer")
        return gate("kernel filter", False, f"this is Linux {release}: {cost}", fixes, blocks=False)
    try:
        os.close(libc.open_bpf_map())
    except OSError as err:
        text = f"bpf(2) refuses ({os.strerror(err.errno or 0)}): {cost}"
        return gate("kernel filter", False, text, fixes, blocks=False)
    return gate(
        "kernel filter", True, "-e 1 --type can dismiss types in the kernel (BPF)", blocks=False
    )


def _paranoid() -> int | None:
    try:
        return int(_PARANOID.read_text())
    except OSError:
        return None
