"""The gates between us and a process, in the order in which the kernel asks them.

Sources: ptrace(2), "Ptrace access mode checking"; Documentation/admin-guide/LSM/Yama.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..gates import Gate, State, gate
from . import access, libc
from .procfs import Status, parse_status

_SUDO = "sudo minidumper …"
_CAPABILITY_FIXES = {
    "shell": _SUDO,
    "docker": "docker run --cap-add=SYS_PTRACE …, or sudo minidumper … on the host",
    "kubernetes": "securityContext: {capabilities: {add: [SYS_PTRACE]}}, or kubectl debug "
    "--profile=sysadmin --target=CONTAINER",
}
_NAMESPACE_FIXES = {
    "shell": "sudo minidumper … outside of unshare, bwrap or rootless podman",
    "docker": "sudo minidumper … on the host, or docker run --userns=host --cap-add=SYS_PTRACE …",
    "kubernetes": "hostUsers: true in the pod's spec",
}
_SECCOMP_FILTER = 2  # proc(5), Seccomp
_NO_SUCH_PID = 0x7FFFFFFF  # above PID_MAX_LIMIT, linux/threads.h
_NAMESPACES = ("pid", "mnt", "user")
_ARCHITECTURES = {3: "x86", 40: "arm", 62: "x64", 183: "arm64"}  # elf.h, EM_*


def process_gates(pid: int) -> Iterator[Gate]:
    """The gates to one process; what the kernel hides is unknown, not failed."""
    try:
        status = parse_status(_text(pid, "status"))
    except (FileNotFoundError, ProcessLookupError):
        fixes = dict.fromkeys(("shell", "docker"), "minidumper ps lists those that can be seen")
        fixes["kubernetes"] = "kubectl debug --target=CONTAINER, or shareProcessNamespace: true"
        yield gate("exists", False, f"there is no process {pid} in this pid namespace", fixes)
        return
    exists = _exists(pid, status)
    yield exists
    if exists.state is State.FAILED:
        return
    capable = access.has_capability(access.CAP_SYS_PTRACE) and _reaches(pid)
    yield _user(pid, status, capable)
    yield _yama(status, capable)
    yield _capabilities(pid, capable)
    yield seccomp_gate()
    yield _dumpable(pid, status, capable)
    yield _tracer(status)
    yield _namespaces(pid, status)
    yield _bitness(pid)
    yield _memory(pid, status)


def own_gates() -> Iterator[Gate]:
    """The gates that are the same for every process."""
    capable = access.has_capability(access.CAP_SYS_PTRACE)
    scope = access.yama_scope()
    evidence = _scope_text(scope)
    if scope and not capable and scope < 3:
        yield gate("yama", None, f"{evidence}: only our own descendants", _yama_fixes(scope))
    else:
        yield gate("yama", scope != 3, evidence, _yama_fixes(scope or 0))
    yield gate(
        "capabilities",
        True if capable else None,
        "CAP_SYS_PTRACE is in effect" if capable else "without CAP_SYS_PTRACE: own processes only",
        _CAPABILITY_FIXES,
    )
    yield seccomp_gate()


def _exists(pid: int, status: Status) -> Gate:
    what = f"process {pid} ({status.name})"
    if not _bytes(pid, "cmdline"):
        text = f"{what} is a zombie or a kernel thread: it has no memory"
        fixes = dict.fromkeys(_CAPABILITY_FIXES, "minidumper ps lists those that can be dumped")
        return gate("exists", False, text, fixes)
    return gate("exists", True, what)


def _reaches(pid: int) -> bool:
    """Whether our capabilities count there: not in a user namespace above our own."""
    try:
        os.readlink(f"/proc/{pid}/ns/user")
    except PermissionError:
        return False
    return True


def _user(pid: int, status: Status, capable: bool) -> Gate:
    """The caller's user and group must be the target's real, effective and saved ones."""
    ids = {
        line[:3]: line.split()[1:4]
        for line in _text(pid, "status").splitlines()
        if line.startswith(("Uid:", "Gid:"))
    }
    own = {"Uid": str(os.geteuid()), "Gid": str(os.getegid())}
    other = [kind for kind in own if set(ids[kind]) != {own[kind]}]
    if not other:
        return gate("user", True, f"both run as user {own['Uid']}")
    what = {"Uid": "user", "Gid": "group"}[other[0]]
    theirs = f"it runs as {what} {'/'.join(dict.fromkeys(ids[other[0]]))}"
    if capable:
        return gate("user", True, f"{theirs}, we have CAP_SYS_PTRACE")
    user, group = status.uid, status.gid
    return gate(
        "user",
        False,
        f"{theirs}, minidumper as {what} {own[other[0]]}",
        {
            "shell": f"sudo -u '#{user}' -g '#{group}' minidumper …, or {_SUDO}",
            "docker": f"docker exec --user {user}:{group} CONTAINER minidumper …",
            "kubernetes": f"securityContext: {{runAsUser: {user}, runAsGroup: {group}}} in the "
            "debug container",
        },
    )


def _scope_text(scope: int | None) -> str:
    return "this kernel has no Yama" if scope is None else f"kernel.yama.ptrace_scope is {scope}"


def _yama_fixes(scope: int) -> dict[str, str]:
    if scope >= 3:
        return dict.fromkeys(
            _CAPABILITY_FIXES, "a reboot of the machine with another kernel.yama.ptrace_scope"
        )
    shell = f"{_SUDO}, or: sudo sysctl kernel.yama.ptrace_scope=0"
    return {**_CAPABILITY_FIXES, "shell": shell}


def _yama(status: Status, capable: bool) -> Gate:
    scope = access.yama_scope()
    text = _scope_text(scope)
    if not scope:
        return gate("yama", True, text)
    if scope < 3 and capable:
        return gate("yama", True, f"{text}, we have CAP_SYS_PTRACE")
    if scope == 1 and _is_descendant(status):
        return gate("yama", True, f"{text}, and the process is our descendant")
    return gate("yama", False, text, _yama_fixes(scope))


def _is_descendant(status: Status) -> bool:
    parent = status.ppid
    while parent > 1:
        if parent == os.getpid():
            return True
        try:
            parent = parse_status(_text(parent, "status")).ppid
        except OSError:
            return False
    return False


def _capabilities(pid: int, capable: bool) -> Gate:
    """Without CAP_SYS_PTRACE the target may not be permitted anything that we are not."""
    if capable:
        return gate("capabilities", True, "CAP_SYS_PTRACE is in effect")
    theirs, ours = _permitted(_text(pid, "status")), _permitted(_text("self", "status"))
    if theirs & ~ours:
        text = f"it has capabilities that we lack (0x{theirs & ~ours:x})"
        return gate("capabilities", False, text, _CAPABILITY_FIXES)
    return gate("capabilities", True, "it has none that we lack")


def _permitted(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("CapPrm:"))
    return int(line.split()[1], 16)


def seccomp_gate() -> Gate:
    """Whether a filter keeps ptrace from us: tried on a process that cannot exist."""
    if parse_status(_text("self", "status")).seccomp != _SECCOMP_FILTER:
        return gate("seccomp", True, "no seccomp filter on minidumper")
    try:
        libc.ptrace(libc.PTRACE_SEIZE, _NO_SUCH_PID)
    except OSError as err:
        if err.errno == errno.ESRCH:
            return gate("seccomp", True, "the seccomp filter lets ptrace through")
        why = os.strerror(err.errno or 0)
        return gate(
            "seccomp",
            False,
            f"a seccomp filter on minidumper refuses ptrace ({why})",
            {
                "shell": "start minidumper from a shell without the filter (systemd: "
                "SystemCallFilter=@system-service ptrace process_vm_readv)",
                "docker": "docker run --cap-add=SYS_PTRACE … or --security-opt "
                "seccomp=unconfined …",
                "kubernetes": "securityContext: {seccompProfile: {type: Unconfined}}",
            },
        )
    return gate("seccomp", None, "the kernel answered in a way that is not known")


def _dumpable(pid: int, status: Status, capable: bool) -> Gate:
    """A process that is not dumpable has files in /proc that belong to root (proc(5))."""
    if capable:
        return gate("dumpable", True, "not asked of those who have CAP_SYS_PTRACE")
    if status.uid == 0:
        return gate("dumpable", None, "cannot be told of a process of root", _CAPABILITY_FIXES)
    if os.stat(f"/proc/{pid}/status").st_uid == status.uid:
        return gate("dumpable", True, "its files in /proc belong to its user")
    text = "it is not dumpable (prctl PR_SET_DUMPABLE, or its program has capabilities)"
    return gate("dumpable", False, text, _CAPABILITY_FIXES)


def _tracer(status: Status) -> Gate:
    if not status.tracer_pid:
        return gate("not traced", True, "no debugger holds it")
    end = f"kill {status.tracer_pid} ends the debugger; the process runs on"
    fixes = dict.fromkeys(("shell", "docker", "kubernetes"), end)
    return gate("not traced", False, f"process {status.tracer_pid} traces it already", fixes)


def _namespaces(pid: int, status: Status) -> Gate:
    """Other namespaces are no obstacle as such: its files are reached through /proc/PID/root."""
    try:
        other = [
            name
            for name in _NAMESPACES
            if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
        ]
    except OSError:
        if access.has_capability(access.CAP_SYS_PTRACE):
            text = "it is outside our user namespace, where our capabilities do not count"
            return gate("namespaces", False, text, _NAMESPACE_FIXES)
        return gate("namespaces", None, "the kernel does not tell its namespaces without access")
    if not other:
        return gate("namespaces", True, "the same as ours")
    text = f"its own: {', '.join(other)}"
    if status.namespace_pid != pid:
        text += f"; it is process {status.namespace_pid} there"
    try:
        os.stat(f"/proc/{pid}/root/proc")
    except PermissionError:
        return gate("namespaces", False, f"{text}; its files cannot be reached", _CAPABILITY_FIXES)
    except OSError:
        pass  # no /proc in there: its root can be entered all the same
    return gate("namespaces", True, f"{text}; its files are reached through /proc/{pid}/root")


def _bitness(pid: int) -> Gate:
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            head = file.read(20)
    except PermissionError:
        return gate("bitness", None, "the kernel does not show its program without access")
    except OSError:
        return gate("bitness", None, "it has no program (any more)")
    wide = head[4:5] == b"\2"  # ELFCLASS64, elf.h
    machine = _ARCHITECTURES.get(int.from_bytes(head[18:20], "little"), "of another processor")
    fix = "use gcore"
    fixes = dict.fromkeys(("shell", "docker", "kubernetes"), fix)
    return gate("bitness", wide and machine == "x64", f"its program is {machine}", fixes)


def _memory(pid: int, status: Status) -> Gate:
    """The proof: its memory is really opened."""
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as err:
        if not isinstance(err, PermissionError):
            fixes = dict.fromkeys(_CAPABILITY_FIXES, "try again: it has ended, or is about to")
            return gate("access", False, f"its memory cannot be opened: {err.strerror}", fixes)
        error = access.denied(pid, status)
        fixes = {**_CAPABILITY_FIXES, "shell": error.hint}
        return gate("access", False, f"its memory cannot be opened: {error}", fixes)
    return gate("access", True, "its memory can be opened")


def _bytes(pid: int | str, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _text(pid: int | str, name: str) -> str:
    return _bytes(pid, name).decode("utf-8", "replace")
