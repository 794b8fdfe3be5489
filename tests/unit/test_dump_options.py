"""What a caller may want of a dump beside its memory, before any process is looked at."""

from __future__ import annotations

import pytest

from minidumper.dbghelp import CallbackHandler
from minidumper.errors import UsageError
from minidumper.platforms.options import DumpOptions
from minidumper.writer import DumpWriter


def test_what_is_given() -> None:
    assert DumpOptions().given() == []
    options = DumpOptions(comment="x", user_streams={1: b""}, writer="native")
    assert options.given() == ["comment", "user_streams", "writer"]


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match="there is no writer procdump"):
        DumpWriter(writer="procdump")
    with pytest.raises(UsageError, match="the native writer asks no callback"):
        DumpWriter(writer="native", callback=CallbackHandler())
