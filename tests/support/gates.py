"""Gates: named preconditions of tests. `pytest.mark.gate("gdb", "root")` asks for open ones.

A test with a closed gate is skipped, with the gate's name and reason; `--require=all` (or names,
separated by commas) makes it fail instead. A module that cannot even be imported elsewhere calls
`demand("linux", module=True)` before its imports.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import paths, runtimes, wine

Gate = Callable[[], str]
"""Returns why the gate is closed, "" when it is open."""


def _program(name: str) -> Gate:
    return lambda: "" if shutil.which(name) else f"{name} is not installed"


def _toolchain() -> str:
    return runtimes.missing_toolchain()


def _old_runtimes() -> str:
    return runtimes.missing_old_runtimes()


def _root() -> str:
    return "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "not running as root"


def _embedded_host() -> str:
    hosts = list((paths.CHECKOUT / "lib" / "host").glob("*/dotnet*"))
    return "" if hosts else "lib/ holds no .NET host (dotnet/vendor.py fills it)"


def _ptrace() -> str:
    """Seizes a child for a moment (ptrace(2): PTRACE_SEIZE 0x4206, PTRACE_DETACH 17)."""
    if sys.platform != "linux":
        return "ptrace is a Linux system call"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            if libc.ptrace(0x4206, child.pid, None, None):
                return f"PTRACE_SEIZE: {os.strerror(ctypes.get_errno())}"
            return ""
        finally:
            child.send_signal(signal.SIGKILL)


def _unshare() -> str:
    if not shutil.which("unshare"):
        return "unshare is not installed"
    done = subprocess.run(["unshare", "-pfm", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def _cgroup(controller: str) -> Gate:
    def gate() -> str:
        """Makes a control group for a moment."""
        try:
            with control_group(controller, "minidumper-gate"):
                return ""
        except OSError as error:
            return f"no {controller} control group can be made: {error.strerror}"

    return gate


@contextlib.contextmanager
def control_group(controller: str, name: str) -> Iterator[Path]:
    """A new control group, version 1 or 2, with files of that controller; all have left it after.

    Raises:
        OSError: there is no such hierarchy here, or it is not ours to change.
    """
    root = Path("/sys/fs/cgroup")
    for parent in (root / controller, root):
        group = parent / name
        try:
            group.mkdir()
        except OSError as error:
            failure = error
            continue
        if any(group.glob(f"{controller}.*")):
            break
        group.rmdir()
        failure = OSError(errno.ENOENT, "the controller is not enabled")
    else:
        raise failure
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def _perf_breakpoints() -> str:
    """Hardware breakpoints as perf events: perf_event_open(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    # struct perf_event_attr: type 5 (breakpoint), 72 bytes, period 1, exclude_kernel, exclude_hv;
    # HW_BREAKPOINT_X at an address of our own, 8 bytes.
    flags = 1 << 5 | 1 << 6
    where = ctypes.cast(libc.getpid, ctypes.c_void_p).value
    attribute = struct.pack("<II5QIIQQ", 5, 72, 0, 1, 0, 0, flags, 0, 4, where, 8)
    descriptor = libc.syscall(298, attribute, 0, -1, -1, 8)  # perf_event_open, x86-64
    if descriptor < 0:
        return f"perf_event_open: {os.strerror(ctypes.get_errno())}"
    os.close(descriptor)
    return ""


def _kernel_cores() -> str:
    """A test that lets the kernel write a core finds it where the program ran (core(5))."""
    try:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii").strip()
    except OSError:
        return "there is no /proc/sys/kernel/core_pattern"
    return "" if pattern == "core" else f"kernel.core_pattern is {pattern!r}, not 'core'"


def _freezer() -> str:
    """What PyInstaller cannot bring along: objdump, and Python as a shared library."""
    names = ("LIBDIR", "INSTSONAME")
    library = Path(*(str(sysconfig.get_config_var(name)) for name in names))
    return _program("objdump")() or ("" if library.exists() else f"there is no {library}")


GATES: dict[str, Gate] = {
    "linux": lambda: "" if sys.platform == "linux" else f"this is {sys.platform}",
    "toolchain": _toolchain,
    "old-runtimes": _old_runtimes,
    "embedded-host": _embedded_host,
    "ptrace": _ptrace,
    "perf-breakpoints": _perf_breakpoints,
    "root": _root,
    "unshare": _unshare,
    "cgroup": _cgroup("memory"),
    "cgroup-pids": _cgroup("pids"),
    "kernel-cores": _kernel_cores,
    "freezer": _freezer,
    "gcc": _program("gcc"),
    "musl": _program("musl-gcc"),
    "mingw": lambda: _program("x86_64-w64-mingw32-gcc")() or _program("i686-w64-mingw32-gcc")(),
    "gdb": _program("gdb"),
    "lldb": _program("lldb"),
    "wine": lambda: wine.missing(),
    "chromium": _program("chromium"),
    "zstd": _program("zstd"),
}


@functools.cache
def closed(name: str) -> str:
    """Why the gate `name` is closed, "" when it is open; asked once a session.

    Raises:
        KeyError: there is no gate of that name.
    """
    return GATES[name]()


required: set[str] = set()
"""Gates of which a closed one is a failure."""

met_closed: dict[str, str] = {}
"""The closed gates that tests asked for, with the reasons."""


def demand(*names: str, module: bool = False) -> None:
    """Skip or fail the test that runs (or the module that is being imported) at a closed gate."""
    shut = {name: reason for name in names if (reason := closed(name))}
    if not shut:
        return
    met_closed.update(shut)
    text = "; ".join(f"gate {name}: {reason}" for name, reason in shut.items())
    if shut.keys() & required:
        pytest.fail(text, pytrace=False)
    pytest.skip(text, allow_module_level=module)
