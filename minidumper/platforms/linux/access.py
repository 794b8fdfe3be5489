"""Why the kernel refuses to let us look into a process, and what opens the gate."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

from ...errors import AccessDeniedError, AlreadyTracedError, TargetError
from .procfs import Status, parse_status

YAMA_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
# linux/capability.h
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_PTRACE = 19


def has_capability(number: int) -> bool:
    """Whether this process has a capability in effect (capabilities(7))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def can_change_user() -> bool:
    """Whether we may become another user: root in a container often may not."""
    return has_capability(CAP_SETUID) and has_capability(CAP_SETGID)


def yama_scope() -> int | None:
    """The value of kernel.yama.ptrace_scope, None where the kernel has no Yama."""
    try:
        return int(YAMA_SCOPE.read_text())
    except OSError:
        return None


def _minidumper_of(guardian: int) -> int:
    """The minidumper that a tracer works for; 0 where it is another debugger."""
    with suppress(psutil.Error):
        process = psutil.Process(guardian)
        if any("MiniDumper.Guardian" in word for word in process.cmdline()):
            return process.ppid()
    return 0


def denied(pid: int, status: Status) -> TargetError:
    """The error that says which gate refused access to `pid`."""
    where = f"process {pid} ({status.name})"
    if status.tracer_pid:
        waits = _minidumper_of(status.tracer_pid)
        return AlreadyTracedError(
            f"{where} is being traced by process {status.tracer_pid}",
            tracer_pid=status.tracer_pid,
            pid=pid,
            hint=f"minidumper waits in it, process {waits}: end that wait first"
            if waits
            else "end that debugger first",
        )
    gate, why, hint = _gate(status)
    return AccessDeniedError(
        f"access to {where} denied: {why}", gate=gate, pid=pid, name=status.name, hint=hint
    )


def _gate(status: Status) -> tuple[str, str, str]:
    own = parse_status(Path("/proc/self/status").read_text())
    capable = has_capability(CAP_SYS_PTRACE)
    scope = yama_scope()
    if scope == 3:
        return (
            "yama",
            "kernel.yama.ptrace_scope is 3, which forbids ptrace to everyone",
            "this can only be changed by a reboot",
        )
    if not capable and status.uid != own.uid:
        return (
            "user",
            f"it runs as user {status.uid}, minidumper as user {own.uid}",
            f"run minidumper as that user (sudo -u '#{status.uid}' minidumper …) or "
            + ("as root" if own.uid else "in a container with --cap-add=SYS_PTRACE"),
        )
    if not capable and status.gid != own.gid:
        return (
            "user",
            f"it runs as group {status.gid}, minidumper as group {own.gid}",
            f"run minidumper as root, or: sudo -u '#{status.uid}' -g '#{status.gid}' minidumper …",
        )
    if not capable and scope:
        return (
            "yama",
            f"kernel.yama.ptrace_scope is {scope}",
            "run with sudo, or: sysctl kernel.yama.ptrace_scope=0; in a container add "
            "--cap-add=SYS_PTRACE (Kubernetes: securityContext.capabilities.add: [SYS_PTRACE])",
        )
    if own.seccomp == 2:
        return (
            "seccomp",
            "a seccomp filter is on minidumper itself",
            "in a container add --cap-add=SYS_PTRACE or --security-opt seccomp=unconfined",
        )
    if not capable:
        return (
            "protected",
            "it is not dumpable (prctl PR_SET_DUMPABLE, or capabilities that minidumper lacks)",
            "run minidumper as root; in a container add --cap-add=SYS_PTRACE",
        )
    return (
        "unknown",
        f"the kernel says {os.strerror(1)} although minidumper has CAP_SYS_PTRACE",
        "a security module (SELinux, AppArmor) may forbid it: see dmesg",
    )
