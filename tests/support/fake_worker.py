"""A worker without .NET: it talks as minidumper/clr/worker.py does, and behaves as it is told.

python fake_worker.py BEHAVIOUR OPTIONS. It answers "open", then does BEHAVIOUR at the next request.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from multiprocessing import connection
from typing import Any

from minidumper.clr import handles


def main() -> None:
    behaviour, options = sys.argv[1], json.loads(sys.argv[2])
    kind = getattr(connection, "PipeConnection", connection.Connection)
    channel: connection.Connection = kind(options["channel"])
    request = receive(channel)
    send(channel, {} if behaviour != "refuse" else {"error": "the DAC refuses"})
    asked = receive(channel)
    if behaviour == "crash":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "leave":
        sys.exit(7)
    for step in range(3 if behaviour == "progress" else 0):
        channel.send_bytes(json.dumps({"progress": ["objects", step, 3]}).encode())
    facts: dict[str, Any] = {"counts": {}, "problems": [], "missing": [], "warnings": []}
    facts |= {"opened": request, "asked": asked, "environment": dict(os.environ)}
    send(channel, facts, request["data"] + asked["data"])


def receive(channel: connection.Connection) -> dict[str, Any]:
    request: dict[str, Any] = json.loads(channel.recv_bytes())
    request["data"] = channel.recv_bytes()
    for name in request["handles"]:
        request["handles"][name] = os.read(handles.take(channel), 100).decode()
    return request


def send(channel: connection.Connection, facts: dict[str, Any], columns: bytes = b"") -> None:
    channel.send_bytes(json.dumps(facts, default=str).encode())
    channel.send_bytes(columns)


if __name__ == "__main__":
    main()
