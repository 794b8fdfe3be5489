"""The only place that asks which system this is."""

from __future__ import annotations

import ntpath
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CaptureError, UnsupportedTargetError, UsageError
from ..target import CaptureBackend, LiveTarget, SnapshotTarget
from ..watching import LaunchedProcess, Watched, Watcher

if TYPE_CHECKING:
    from .finding import DotnetProcess
    from .gates import Gate
    from .options import DumpOptions

__all__ = [
    "backend",
    "commit_charge",
    "configure",
    "debugger_gates",
    "dotnet_processes",
    "drop_rights",
    "dumps_itself",
    "launch",
    "open_target",
    "own_gates",
    "pid_of",
    "prefer_to_be_killed",
    "process_gates",
    "program_of",
    "protect_worker",
    "rescue",
    "snapshot",
    "waiting_gates",
    "watch",
]


def open_target(process: int | str) -> LiveTarget:
    """Open a live process by pid or name; use it in `with`, which closes it.

    Raises:
        TargetNotFoundError, AmbiguousTargetError: none, or several, match.
        AccessDeniedError: the system does not let us look into it.
    """
    pid = process if isinstance(process, int) else pid_of(process)
    if sys.platform == "linux":
        from .linux.process import LinuxProcess

        return LinuxProcess(pid)
    if sys.platform == "win32":
        from .windows.process import WindowsProcess

        return WindowsProcess(pid)
    raise _unsupported()


def configure(target: LiveTarget, options: DumpOptions) -> None:
    """Write the dumps of a process in this way from now on.

    Raises:
        UsageError: this system's dumps have no such thing, or it is not a full path.
    """
    if sys.platform == "linux":
        from .linux.process import LinuxProcess

        if others := [name for name in options.given() if name != "comment"]:
            raise UsageError(
                f"{', '.join(others)}: for the minidumps of Windows alone; Linux has ELF cores"
            )
        assert isinstance(target, LinuxProcess)
        target.comment = options.comment
    if sys.platform == "win32":
        from .windows.process import WindowsProcess

        assert isinstance(target, WindowsProcess)
        if options.dbghelp and not ntpath.isabs(options.dbghelp):
            raise UsageError(
                f"{options.dbghelp} is no full path: dbghelp is never searched for",
                hint=f"--dbghelp {ntpath.abspath(options.dbghelp)}",
            )
        target.options = options


def dotnet_processes() -> Iterator[DotnetProcess]:
    """The .NET processes of this machine, as far as they can be seen."""
    if sys.platform == "linux":
        from .linux.dotnet import dotnet_processes

        return dotnet_processes()
    if sys.platform == "win32":
        from .windows.dotnet import dotnet_processes

        return dotnet_processes()
    raise _unsupported()


def process_gates(pid: int) -> Iterator[Gate]:
    """What can keep us from looking into a process, in order."""
    if sys.platform == "linux":
        from .linux.gates import process_gates

        return process_gates(pid)
    if sys.platform == "win32":
        from .windows.gates import process_gates

        return process_gates(pid)
    raise _unsupported()


def own_gates() -> Iterator[Gate]:
    """What can keep us from looking into any process."""
    if sys.platform == "linux":
        from .linux.gates import own_gates

        return own_gates()
    if sys.platform == "win32":
        from .windows.gates import own_gates

        return own_gates()
    raise _unsupported()


def waiting_gates() -> Iterator[Gate]:
    """What can keep us from waiting for exceptions where they are thrown."""
    if sys.platform == "linux":
        from .linux.waitgates import waiting_gates

        return waiting_gates()
    return iter(())


def snapshot(target: LiveTarget) -> SnapshotTarget:
    """A copy of a process that holds still while that runs on; close it to give it back.

    Raises:
        CaptureError: none can be had.
        TargetError: the process cannot be stopped for a moment.
    """
    take = backend().prepare_snapshot(target)
    if take is None:
        raise CaptureError(f"no snapshot: none is taken on {sys.platform} yet", stage="snapshot")
    with target.stopped():
        return take()


def commit_charge(pid: int) -> int:
    """Bytes of memory that a process takes: resident and swapped; on Windows its commit charge.

    Raises:
        TargetExitedError: it is gone.
    """
    if sys.platform == "linux":
        from .linux.waiting import commit_charge

        return commit_charge(pid)
    if sys.platform == "win32":
        from .windows.waiting import commit_charge

        return commit_charge(pid)
    raise _unsupported()


def program_of(pid: int) -> bytes | None:
    """What tells a process's program from the one that takes its place; None where none is left."""
    if sys.platform == "linux":
        from .linux.procfs import program_of

        return program_of(pid)
    return b""


def dumps_itself(pid: int) -> bool:
    """Whether a process is set up to take a dump of itself at a crash, which watching prevents."""
    if sys.platform == "linux":
        from .linux.waiting import dumps_itself

        return dumps_itself(pid)
    return False


def watch(
    target: LiveTarget,
    what: Watched,
    *,
    guardian: Sequence[str | Path],
    launched: LaunchedProcess | None = None,
) -> Watcher:
    """Watch a process, and hold it at what counts; `guardian` is the command that starts one.

    `launched` is the process where we launched it.

    Raises:
        TargetError: it cannot be held.
        CaptureError: this system does not let us wait for such things yet.
    """
    if sys.platform == "linux":
        from .linux.process import LinuxProcess
        from .linux.watcher import LinuxWatcher

        assert isinstance(target, LinuxProcess)
        return LinuxWatcher(guardian, target, what, begins=launched is not None)
    if sys.platform == "win32":
        from .windows.launching import Launched
        from .windows.process import WindowsProcess
        from .windows.watcher import DebugWatcher

        assert isinstance(target, WindowsProcess)
        loop = launched.watch() if isinstance(launched, Launched) else None
        return DebugWatcher(target, what, loop)
    raise _unsupported()


def launch(command: Sequence[str], *, new_console: bool) -> LaunchedProcess:
    """Start a program that waits for `go()` before its first instruction.

    `new_console` gives it one of its own, on Linux a session and a pseudo terminal.

    Raises:
        TargetNotFoundError: there is no such program.
    """
    if sys.platform == "linux":
        from .linux.waiting import Launched

        return Launched(command, new_console=new_console)
    if sys.platform == "win32":
        from .windows.launching import Launched

        return Launched(command, new_console=new_console)
    raise _unsupported()


def rescue(pid: int, runtime: str) -> int:
    """Let a process run that a dead .NET debugger left stopped; how often it was found so.

    `runtime` is the version of its .NET.

    Raises:
        UnsupportedTargetError: how debuggers speak to that version is not known here.
        AccessDeniedError, AlreadyTracedError, CaptureError: it cannot be freed.
    """
    if sys.platform == "linux":
        from .linux.debugtransport import check_version, rescue

        check_version(runtime)
        return rescue(pid)
    raise UnsupportedTargetError(
        "a debugger that dies leaves nothing to free on this system: it ends the process, or lets "
        "it run"
    )


def debugger_gates(pid: int, runtime: str) -> Iterator[Gate]:
    """Whether a .NET debugger that died has left a process stopped."""
    if sys.platform == "linux":
        from .linux.debugtransport import debugger_gates

        return debugger_gates(pid, runtime)
    return iter(())


def backend() -> CaptureBackend:
    """This system's files and limits."""
    if sys.platform == "linux":
        from .linux.backend import LinuxBackend

        return LinuxBackend()
    if sys.platform == "win32":
        from .windows.backend import WindowsBackend

        return WindowsBackend()
    raise _unsupported()


def prefer_to_be_killed() -> None:
    """Let the system end us and our children before the target where memory runs out."""
    if sys.platform == "linux":
        from .linux.backend import prefer_to_be_killed

        prefer_to_be_killed()


def protect_worker(parent: int) -> None:
    """Let this process end with its parent, and before a target where memory runs out."""
    if sys.platform == "linux":
        from .linux.worker import protect_worker

        protect_worker(parent)


def drop_rights(user: int, group: int) -> None:
    """Become that user for good."""
    if sys.platform == "linux":
        from .linux.worker import drop_rights

        drop_rights(user, group)


def pid_of(name: str) -> int:
    """The process that a name means.

    Raises:
        TargetNotFoundError, AmbiguousTargetError: none, or several, match.
    """
    from .finding import find_pid

    if sys.platform == "win32":
        from .windows.finding import candidates
    else:
        from .finding import candidates
    return find_pid(name, candidates())


def _unsupported() -> UnsupportedTargetError:
    return UnsupportedTargetError(f"minidumper does not run on {sys.platform} yet")
