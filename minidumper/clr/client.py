"""The parent's side of the worker: starts it, warms it, asks it, and outlives it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import Pipe
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..errors import BridgeError
from ..plan import CaptureWarning
from ..ranges import MemoryRange
from ..target import MemorySource, Target, ThreadInfo
from .answers import Assembly, ClrRegions, HeapRow, Inspection, MissingRead, unpack_ranges
from .dac import Dac
from .handles import give, handle_of
from .host import find_host
from .runtime import Runtime


class Surroundings(NamedTuple):
    """Where a process has what the runtime's pointers lead to."""

    data: Sequence[MemoryRange] = ()
    """The runtime's data, where such pointers begin."""
    memory: Sequence[MemoryRange] = ()
    """Private memory, where allocations lie."""
    files: Sequence[MemoryRange] = ()
    """What is mapped of files but code."""


NOWHERE = Surroundings()

Progress = Callable[[str, int, int], None]
"""Told a stage, how much of it is done, and how much there is (0: unknown)."""

OPEN_S = 30.0
"""Seconds to load .NET, ClrMD and the DAC; 0.6 on a quiet machine."""
COLLECT_S = 20.0
"""Seconds inside the stop; 0.02 on .NET 8 and newer, 0.3 on 3.1."""
INSPECT_S = 300.0
"""Seconds between two signs of life of a walk over all objects."""
REHEARSE_S = 30.0
"""Seconds between two signs of life of a rehearsal: a busy machine is no hang."""
_DETAIL_SIZE = 2000
"""Bytes of the worker's last words that are kept."""

_LOG = logging.getLogger(__name__)

_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from minidumper import platforms
from minidumper.clr.worker import main
main(sys.argv[1], platforms)
"""
WORKER_WORD = "_worker"
"""The first word by which a frozen program (dotnet/freeze/program.py) is its own worker."""


class ClrClient:
    """A worker with one target's DAC; use it in `with`, which ends it.

    Start it in a thread that outlives it: on Linux the worker is killed with that thread.
    """

    def __init__(self, target: Target, command: Sequence[str], options: dict[str, Any]) -> None:
        self._target = target
        self._channel, theirs = Pipe()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        options |= {"channel": theirs.fileno(), "parent": os.getpid()}
        try:
            self._process = subprocess.Popen(
                [*command, json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                env=_environment(),
                cwd=os.path.abspath(os.sep),
                **_inheriting(theirs.fileno()),
            )
        except BaseException:
            self._channel.close()
            self._words.close()
            raise
        finally:
            theirs.close()
        self._opened = False

    @classmethod
    def start(
        cls,
        target: Target,
        runtime: Runtime,
        dac: Dac,
        *,
        user: tuple[int, int] | None = None,
        skip: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> Self:
        """Start a worker that loads everything while the caller goes on.

        `user` is whom it becomes before it loads the target's DAC. `skip` leaves steps out in
        which a DAC crashed: "rehearsal", "stacks". `command` is what to start as a worker: it
        gets one more argument, and must call `worker.main` with it and `platforms`.

        Raises:
            HostRuntimeNotFoundError: there is no .NET for it.
        """
        host = find_host()
        client = cls(
            target,
            command or _worker_command(),
            {
                "path": [os.path.abspath(folder) for folder in sys.path],
                "dotnet_root": str(host.dotnet_root),
                "runtime_config": str(host.runtime_config),
                "bridge": str(host.bridge),
                "user": user,
            },
        )
        try:
            client._send_open(runtime, dac, skip)
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker at once; it has nothing to put in order."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
        self._words.close()

    def open_again(self, runtime: Runtime, dac: Dac, skip: Sequence[str] = ()) -> None:
        """Begin anew with a runtime that was not yet ready to be read when it was opened.

        Raises:
            BridgeError: the worker is gone.
        """
        self._opened = False
        self._send_open(runtime, dac, skip)

    def attach(self, source: MemorySource) -> None:
        """Read the same process from somewhere else from now on: a snapshot of it.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        request = {"memory": _memory(source)}
        self._ask("attach", request, handles=_handles(source), deadline_s=COLLECT_S)

    def rehearse(self, budget_s: float) -> Mapping[str, Any]:
        """Walk all that SOS's commands read of the running target, for so many seconds at most.

        The pages it took are part of what `collect` gives, and the worker is warm after it. The
        facts have `complete`, `types`, `methods`, `objects` and `failures`: torn structures.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        # No thread has the id 0: it is there so that the code for registers is warm, too.
        request = {"seconds": budget_s, "threads": [0]}
        return self._ask("rehearse", request, bytes(8), deadline_s=REHEARSE_S)[0]

    def collect(
        self,
        threads: Sequence[ThreadInfo],
        *,
        minimal: bool = False,
        committed: bool = False,
        thrown: int = 0,
        surroundings: Surroundings = NOWHERE,
    ) -> ClrRegions:
        """What a dump of the target, which must be stopped, needs of the CLR.

        `minimal` leaves the heap out. `committed` takes all committed GC memory instead of the
        part in use, for a heap that cannot be walked. `thrown` is the address of an exception that
        is about to be thrown. `surroundings` are those of the stop.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        request = {"minimal": minimal, "committed": committed, "thrown": thrown}
        request |= surroundings._asdict() | _threads(threads)
        contexts = b"".join(thread.context for thread in threads)
        facts, columns = self._ask("collect", request, contexts, deadline_s=COLLECT_S)
        warnings = [CaptureWarning("clr", text) for text in facts.pop("warnings")]
        return ClrRegions(unpack_ranges(columns), facts, warnings)

    def inspect(
        self, threads: Sequence[ThreadInfo] | None = None, *, progress: Progress | None = None
    ) -> Inspection:
        """Read a target as ClrMD and SOS do; `threads` are the target's where none are given.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        threads = self._target.threads() if threads is None else threads
        contexts = b"".join(thread.context for thread in threads)
        facts, _ = self._ask(
            "inspect", _threads(threads), contexts, deadline_s=INSPECT_S, progress=progress
        )
        missing = tuple(MissingRead(*row) for row in facts["missing"])
        return Inspection(facts["counts"], tuple(facts["problems"]), missing)

    def exception(self, *, address: int = 0, tid: int = 0) -> Mapping[str, Any]:
        """The exception object at an address, else the one that a thread has thrown last.

        Empty where there is none; else `address`, `method_table`, `message`, `hresult`,
        `message_offset` and `inner_offset` (bytes, from the object to the pointers to its message
        and to the exception inside it), `types` from its
        own to System.Object, and `inner` with type and message of each.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        request = {"address": address, "thread": tid}
        return self._ask("exception", request, deadline_s=COLLECT_S)[0]

    def helpers(self, start: int, end: int, names: Sequence[str]) -> Mapping[str, int]:
        """Where those of the JIT's helpers begin that lie in [start, end), by name.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        request = {"start": start, "end": end, "names": names}
        return self._ask("helpers", request, deadline_s=COLLECT_S)[0]

    def late_throw_site(self) -> int | None:
        """Where exceptions pass from .NET 9 on: 0 until there was one, None before that version.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        return self._ask("late_throw_site", {}, deadline_s=COLLECT_S)[0].get("address")

    def assemblies(self) -> list[Assembly]:
        """All assemblies of a target that holds still.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        facts, _ = self._ask("assemblies", {}, deadline_s=COLLECT_S)
        return [Assembly(*row) for row in facts["rows"]]

    def heapstat(self, *, progress: Progress | None = None) -> list[HeapRow]:
        """Walk all objects: counts and sizes (bytes) by type and generation.

        Raises:
            BridgeError: the worker failed, crashed or hung.
        """
        facts, _ = self._ask("heapstat", {}, deadline_s=INSPECT_S, progress=progress)
        return [HeapRow(*row) for row in facts["rows"]]

    def _send_open(self, runtime: Runtime, dac: Dac, skip: Sequence[str]) -> None:
        target = self._target
        source = target.memory_source()
        request = {
            "pid": target.pid,
            "modules": [[m.path, m.base, m.end] for m in target.modules()],
            "runtime": {
                "path": runtime.path,
                "start": runtime.base,
                "end": runtime.end,
                "version": runtime.version or dac.version,  # a dump may lack what tells it
            },
            "dac": str(dac.path),
            "skip": list(skip),
            "memory": _memory(source),
        }
        handles = _handles(source)
        if dac.descriptor is not None:
            handles["dac"] = dac.descriptor
        self._send("open", request, b"", handles, OPEN_S)

    def _ask(
        self,
        command: str,
        request: dict[str, Any],
        data: bytes = b"",
        *,
        handles: Mapping[str, int] | None = None,
        deadline_s: float,
        progress: Progress | None = None,
    ) -> tuple[dict[str, Any], bytes]:
        if not self._opened:
            self._receive("open", OPEN_S, None)
            self._opened = True
        self._send(command, request, data, handles or {}, deadline_s)
        return self._receive(command, deadline_s, progress)

    def _send(
        self,
        command: str,
        request: dict[str, Any],
        data: bytes,
        handles: Mapping[str, int],
        deadline_s: float,
    ) -> None:
        request = {**request, "command": command, "handles": dict(handles)}
        with self._within(deadline_s, command):
            self._channel.send_bytes(json.dumps(request).encode())
            self._channel.send_bytes(data)
            for handle in handles.values():
                give(self._channel, handle, self._process.pid)

    def _receive(
        self, command: str, deadline_s: float, progress: Progress | None
    ) -> tuple[dict[str, Any], bytes]:
        """The answer, after any frames of progress, each of which begins the deadline anew."""
        while True:
            with self._within(deadline_s, command):
                facts = json.loads(self._channel.recv_bytes())
                if "progress" not in facts:
                    columns = self._channel.recv_bytes()
                    break
            if progress:
                progress(*facts["progress"])
        if "error" in facts:
            raise BridgeError(f"the CLR side failed to {command}: {facts['error']}")
        return facts, columns

    @contextlib.contextmanager
    def _within(self, deadline_s: float, command: str) -> Iterator[None]:
        """Talk with the worker; one that hangs is killed, one that is gone is a clear error."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(deadline_s, expire)
        timer.start()
        try:
            yield
        except (EOFError, OSError) as err:
            status = self._process.wait()
            what = (
                f"did not {command} within {deadline_s:g} s and was killed"
                if expired.is_set()
                else f"ended during {command}: {_status(status)}{self._last_words()}"
            )
            raise BridgeError(f"the CLR side {what}", exit_status=status) from err
        finally:
            timer.cancel()
            timer.join()

    def _last_words(self) -> str:
        """What the worker said on standard error: the line that tells most, all of it to the log.

        Python's is the last of a traceback, .NET's the first of its message.
        """
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _DETAIL_SIZE))
        words = self._words.read().decode(errors="replace").strip()
        if not words:
            return ""
        _LOG.debug("the CLR side said: %s", words)
        lines = words.splitlines()
        return f" ({lines[-1 if lines[0].startswith('Traceback') else 0]})"


def _worker_command() -> list[str]:
    if getattr(sys, "frozen", False):  # there is no Python but the program itself
        return [sys.executable, WORKER_WORD]
    return [sys.executable, "-I", "-S", "-c", _BOOT]


def _environment() -> dict[str, str]:
    """Nothing of the caller's: its variables can be the target's own, as under kubectl exec."""
    # No diagnostic port, debugger or profiler in the worker:
    # https://learn.microsoft.com/dotnet/core/runtime-config/debugging-profiling
    environment = {"DOTNET_EnableDiagnostics": "0"}
    if "SYSTEMROOT" in os.environ:  # without it Windows cannot start Python
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    return environment


def _inheriting(handle: int) -> dict[str, Any]:
    """Arguments for Popen that let the child have this handle, and no other of ours."""
    startup_info = getattr(subprocess, "STARTUPINFO", None)
    if startup_info is None:
        return {"pass_fds": (handle,)}
    os.set_handle_inheritable(handle, True)  # type: ignore[attr-defined,unused-ignore]
    return {"startupinfo": startup_info(lpAttributeList={"handle_list": [handle]})}


def _status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _threads(threads: Sequence[ThreadInfo]) -> dict[str, Any]:
    return {"threads": [thread.tid for thread in threads]}


def _memory(source: MemorySource) -> dict[str, Any]:
    """A source as the bridge wants it; its descriptors travel beside it."""
    return {
        "is_process": source.is_process,
        "table": [list(row) for row in source.table],
        "frames": [list(row) for row in source.frames],
        "copies": _memory(source.copies) if source.copies else None,
    }


def _handles(source: MemorySource) -> dict[str, int]:
    handles = {"memory": handle_of(source)}
    if source.copies:
        handles["copies"] = handle_of(source.copies)
    return handles
