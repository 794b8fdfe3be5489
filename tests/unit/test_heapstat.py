"""Types taken together, compared, filtered and shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from minidumper.cli import heapstat as command
from minidumper.cli import main
from minidumper.clr.answers import HeapRow
from minidumper.errors import BridgeError, ClrError
from minidumper.heapstat import HeapStatistics, TypeChange, TypeRow, _walk, by_type, changes

ROWS = (
    HeapRow("App.Order", "app.dll", "gen0", 10, 1000),
    HeapRow("App.Order", "app.dll", "gen2", 5, 500),
    HeapRow("System.String", "corelib.dll", "gen2", 7, 4200),
    HeapRow("App.Order[]", "app.dll", "loh", 1, 90_000),
)
HEAP = HeapStatistics("7", "Shop", 7, ROWS, 0.03, ("slow",))
LATER = HeapStatistics("8", "Shop", 8, (HeapRow("App.Order", "app.dll", "gen2", 20, 2000), ROWS[2]))


def test_generations_are_taken_together_or_apart() -> None:
    assert by_type(ROWS) == [
        TypeRow("App.Order[]", "", 1, 90_000),
        TypeRow("System.String", "", 7, 4200),
        TypeRow("App.Order", "", 15, 1500),
    ]
    assert [row.generation for row in by_type(ROWS, generations=True)] == [
        *("loh", "gen2", "gen0", "gen2"),
    ]


def test_types_without_metadata_have_a_name_that_says_so() -> None:
    nameless: Any = None
    assert by_type([HeapRow(nameless, "", "gen0", 1, 24)]) == [TypeRow("(unknown)", "", 1, 24)]


def test_changes_are_types_that_differ_the_largest_growth_first() -> None:
    assert changes(by_type(ROWS), by_type(LATER.rows)) == [
        TypeChange("App.Order", "", 15, 20, 1500, 2000),
        TypeChange("App.Order[]", "", 1, 0, 90_000, 0),
    ]
    assert changes(by_type(ROWS), by_type(ROWS)) == []


def test_text_has_a_line_a_type_and_the_total_of_all() -> None:
    assert list(command.text(HEAP, by_type(ROWS)[:2])) == [
        "COUNT   BYTES  TYPE",
        "    1  90,000  App.Order[]",
        "    7   4,200  System.String",
        "23 objects, 95,700 bytes in the heap of Shop (7)",
    ]


def run(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    def of_process(process: int, **_: Any) -> HeapStatistics:
        return HEAP if process == 7 else LATER

    monkeypatch.setattr("minidumper.heapstat.of_process", of_process)
    assert main.run(["heapstat", *words]) == 0
    told = capsys.readouterr()
    return told.out, told.err


def test_json_top_and_filter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(["7", "--json", "--filter", "app.o*r", "--top", "1"], monkeypatch, capsys)
    assert json.loads(out) == [{"type": "App.Order[]", "count": 1, "size": 90_000}]
    assert err.splitlines() == [
        "minidumper: warning: slow",
        "minidumper: process 7 stood still for 30 ms",
    ]


def test_csv_and_generations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(["7", "--csv", "--by-generation"], monkeypatch, capsys)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows[0] == {"type": "App.Order[]", "generation": "loh", "count": "1", "size": "90000"}
    assert len(rows) == 4


def test_diff(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(["7", "--diff", "8"], monkeypatch, capsys)
    assert out.splitlines() == [
        "COUNT    BYTES  GEN  TYPE",
        "   +5     +500  all  App.Order",
        "   -1  -90,000  all  App.Order[]",
        "+4 objects, -89,500 bytes from 7 to 8",
    ]


def test_a_filter_that_nothing_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(["7", "--filter", "[x]", "-q", "--csv"], monkeypatch, capsys)
    assert (out, err) == ("type,generation,count,size\n", "")  # quiet, and yet what was asked for


class Worker:
    """Answers like a CLR client that finds the heap walkable only at the last of some moments."""

    def __init__(self, walkable: Sequence[bool], error: Exception | None = None) -> None:
        self._walkable = iter(walkable)
        self._error = error

    def collect(self, threads: object) -> Any:
        return SimpleNamespace(facts={"can_walk": next(self._walkable)})

    def heapstat(self, *, progress: object) -> Sequence[HeapRow]:
        if self._error:
            raise self._error
        return ROWS


def walk(worker: Any, *, last: bool = False, warnings: list[str] | None = None) -> Any:
    target: Any = SimpleNamespace(pid=7, threads=list)
    return _walk(worker, target, [] if warnings is None else warnings, last=last, progress=None)


def test_a_gc_at_work_asks_for_another_moment_and_is_told_after_the_last() -> None:
    assert walk(Worker([True])) == ROWS
    assert walk(Worker([False])) is None
    warnings: list[str] = []
    assert walk(Worker([False]), last=True, warnings=warnings) == ROWS
    assert "in the middle of its work" in warnings[0]


def test_a_torn_object_asks_for_another_moment_and_a_crash_does_not() -> None:
    torn, crash = BridgeError("Object 12 is corrupted"), BridgeError("ended", exit_status=-11)
    assert walk(Worker([True], torn)) is None
    with pytest.raises(ClrError, match=r"in motion .* corrupted"):
        walk(Worker([True], torn), last=True)
    with pytest.raises(BridgeError, match="ended"):
        walk(Worker([True], crash))
