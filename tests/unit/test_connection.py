"""The lines to and from a helper process."""

from __future__ import annotations

import sys

import pytest

from tests.support import gates

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.platforms.linux.connection import Connection

HELPER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[-1])) as ours:
    commands = ours.makefile()
    commands.readline()
    ours.sendall(b"told\\n")
    commands.readline()
    ours.sendall(b"ok stop of stop\\nok detach of detach\\n")
"""


def test_an_interrupt_leaves_an_answer_unread() -> None:
    def take(line: str) -> None:
        assert line == "told"
        raise KeyboardInterrupt

    connection = Connection([sys.executable, "-c", HELPER], take, gone="gone")
    try:
        with pytest.raises(KeyboardInterrupt):
            connection.ask("stop")
        assert connection.ask("detach") == ["of", "detach"]
    finally:
        connection.close()
