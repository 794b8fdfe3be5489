"""The child process that holds .NET, the bridge and the target's DAC; it opens nothing by itself.

It talks over an inherited connection in pairs of frames, JSON and bytes; before an answer it may
send single frames of progress. It loads everything of its own first, then gives up its rights,
and only then loads the target's DAC.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from multiprocessing import connection
from typing import Any, NoReturn, Protocol

import zstandard

from .handles import take


class WorkerSystem(Protocol):
    """What a system does inside a worker; `platforms` serves."""

    def protect_worker(self, parent: int) -> None:
        """End with the parent, before the target where memory runs out, and leave no core file."""
        ...

    def drop_rights(self, user: int, group: int) -> None:
        """Become that user for good."""
        ...


class Worker:
    """Answers requests until the connection ends."""

    def __init__(self, channel: connection.Connection) -> None:
        self._channel = channel
        self._session: Any = None

    def run(self) -> None:
        """Serve the parent.

        Raises:
            EOFError: the parent is gone.
        """
        while True:
            request = json.loads(self._channel.recv_bytes())
            data = self._channel.recv_bytes()
            try:
                facts, columns = self._answer(request, data)
            except Exception as err:  # of .NET too, each kind of which is its own
                print(err, file=sys.stderr, flush=True)
                facts, columns = json.dumps({"error": str(err).partition("\n")[0]}), b""
            self._send(facts, columns)

    def _answer(self, request: dict[str, Any], data: bytes) -> tuple[str, bytes]:
        for name in request.get("handles", {}):
            request["handles"][name] = take(self._channel)
        if "dac" in request.get("handles", {}):  # its path may be closed to us by now
            request["dac"] = f"/proc/self/fd/{request['handles']['dac']}"
        command, arguments = request.pop("command"), json.dumps(request)
        if command == "open":
            from MiniDumper.Bridge import Session
            from System import Action, Int32, Int64, String

            unpack = Action[Int64, Int32, Int64, Int32](_unpack)
            self._session = Session(arguments, unpack)
            self._session.Progress = Action[String, Int64, Int64](self._report)
        buffer = ctypes.create_string_buffer(data, len(data))
        answer = self._session.Run(command, arguments, ctypes.addressof(buffer), len(data))
        return answer.Json, bytes(answer.Data)

    def _report(self, stage: str, done: int, total: int) -> None:
        self._channel.send_bytes(json.dumps({"progress": [stage, done, total]}).encode())

    def _send(self, facts: str, columns: bytes) -> None:
        self._channel.send_bytes(facts.encode())
        self._channel.send_bytes(columns)


def _unpack(packed: int, packed_size: int, place: int, size: int) -> None:
    """Unpack a zstd frame from one address to another."""
    data = zstandard.ZstdDecompressor().decompress(
        ctypes.string_at(packed, packed_size), max_output_size=size
    )
    ctypes.memmove(place, data, min(len(data), size))


def load_bridge(dotnet_root: str, runtime_config: str, bridge: str) -> None:
    """Load .NET into this process, the bridge, and all that it refers to."""
    from clr_loader import get_coreclr
    from pythonnet import set_runtime

    set_runtime(get_coreclr(runtime_config=runtime_config, dotnet_root=dotnet_root))
    import clr

    clr.AddReference(bridge)
    from MiniDumper.Bridge import Session

    Session.Preload()


def main(arguments: str, system: WorkerSystem) -> NoReturn:
    """The worker program; `arguments` is what `ClrClient` composes.

    Leaves without Python's and .NET's own ends: the DAC cannot be unloaded.
    """
    options = json.loads(arguments)
    system.protect_worker(options["parent"])
    # A pipe of Windows is of another class, which only Windows has.
    kind = getattr(connection, "PipeConnection", connection.Connection)
    channel = kind(options["channel"])
    load_bridge(options["dotnet_root"], options["runtime_config"], options["bridge"])
    if options["user"]:
        system.drop_rights(*options["user"])
    try:
        Worker(channel).run()
    except (EOFError, OSError):
        os._exit(0)
    os._exit(1)
