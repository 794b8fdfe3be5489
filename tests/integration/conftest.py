"""The two ways in which exceptions are seen on Linux."""

from __future__ import annotations

import pytest

from minidumper.clr import host
from tests.support import seccomp
from tests.support.waiting import BREAKPOINTS, DEBUGGER


@pytest.fixture(params=[BREAKPOINTS, DEBUGGER])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How exceptions are seen: the second is had where the guardian may set no breakpoint."""
    found: str = request.param
    if found == DEBUGGER:
        command = host.find_host().guardian
        refused = [*seccomp.prefix(seccomp.PERF_EVENT_OPEN), *command]
        monkeypatch.setattr(host.HostLocation, "guardian", refused)
    return found
