"""What the other tests rely on: gates that are closed, processes that stay."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import gates, oracle, processes


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(gates.GATES, "shut", lambda: "as always")
    monkeypatch.setattr(gates, "met_closed", {})
    monkeypatch.setattr(gates, "required", set())
    gates.closed.cache_clear()
    return "shut"


def test_a_closed_gate_skips_and_is_remembered(shut: str) -> None:
    with pytest.raises(pytest.skip.Exception, match="gate shut: as always"):
        gates.demand(shut)
    assert gates.met_closed == {"shut": "as always"}


def test_a_required_gate_fails(shut: str) -> None:
    gates.required.add(shut)
    with pytest.raises(pytest.fail.Exception, match="gate shut: as always"):
        gates.demand(shut)


@pytest.mark.gate("linux")
def test_an_orphan_is_found_and_ended() -> None:
    before = processes.descendants()
    # A child is its shell until it has become its program.
    begun = 'until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done'
    subprocess.run(["sh", "-c", f"sleep 3600 & {begun}"], check=True)
    (left,) = processes.end_left_over(before, patience_s=0)
    assert left.endswith("sleep 3600")
    assert processes.descendants() == before


def test_differences_are_told_by_section() -> None:
    one = {"threads": ["1 a", "2 b"], "heap": ["x"], "types": []}
    other = {"threads": ["1 a", "2 c"], "heap": ["x"], "handles": ["h"]}
    assert oracle.differences(one, other) == {"threads": ["-2 b", "+2 c"], "handles": ["+h"]}
