"""What a program does between the rehearsal of a dump and its stop."""

from __future__ import annotations

import pytest

from minidumper.planning import Planner
from minidumper.report import CaptureReport

from .targets import Running

ENV = {"DOTNET_TC_CallCountingDelayMs": "0"}
"""A method is compiled anew by its 30th call, whatever else is compiled (clrconfignames.h)."""
NATIVE_MB = 40
"""Of the C heap, in small blocks, twice: in [heap], and in an arena of malloc."""
ARGS = ("--native-mb", str(NATIVE_MB))


def works_on(app: Running, patch: pytest.MonkeyPatch) -> None:
    """From now on methods are compiled anew, and an assembly is loaded, after each rehearsal."""
    rehearse = Planner.rehearse

    def rehearse_and_work(self: Planner, *args: float) -> None:
        rehearse(self, *args)
        assert int(app.ask("promote")) > 0
        assert app.ask("load") == "Tiers"

    patch.setattr(Planner, "rehearse", rehearse_and_work)


def assert_small(report: CaptureReport) -> None:
    """The program's own allocations are not in a dump."""
    assert report.disk_size < NATIVE_MB << 20
