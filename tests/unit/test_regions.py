"""Rows of a region map, their totals, and what two maps differ in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidumper.cli import regionpage, regions
from minidumper.errors import UsageError
from minidumper.plan import DumpMode
from minidumper.ranges import PAGE_SIZE, MemoryRange, Reason, ReasonedRange, union
from minidumper.regionmap import Change, Estimate, RegionMap, RegionRow, differences, region_rows
from minidumper.target import VmRegion

P = PAGE_SIZE
HEAP, STACK = Reason.GC_HEAP, Reason.STACK


class Half:
    """A target every second page of which is zero."""

    def resident(self, regions: Sequence[VmRegion], span: MemoryRange) -> list[MemoryRange]:
        even = range(span.start + span.start % (2 * P), span.end, 2 * P)
        return [MemoryRange(start, start + P) for start in even]


def rows_of(spans: Sequence[VmRegion], ranges: Sequence[ReasonedRange]) -> list[RegionRow]:
    target: Any = Half()
    return list(region_rows(target, spans, ranges))


def region_map(*rows: RegionRow, estimate: Estimate | None = None) -> RegionMap:
    return RegionMap("7", "Shop", 7, DumpMode.HEAP, rows, ("gc: late",), {}, 0.02, estimate)


def test_a_region_is_cut_where_the_reasons_change() -> None:
    spans = [VmRegion(0, 8 * P, "rw-p"), VmRegion(8 * P, 10 * P, "---p")]
    ranges = [ReasonedRange(2 * P, 4 * P, HEAP), ReasonedRange(4 * P, 6 * P, HEAP | STACK)]
    assert rows_of(spans, ranges) == [
        RegionRow(0, 2 * P, P, "rw-p", "", Reason(0)),
        RegionRow(2 * P, 4 * P, P, "rw-p", "", HEAP),
        RegionRow(4 * P, 6 * P, P, "rw-p", "", HEAP | STACK),
        RegionRow(6 * P, 8 * P, P, "rw-p", "", Reason(0)),
        RegionRow(8 * P, 10 * P, 0, "---p", "", Reason(0)),
    ]


def test_a_range_over_several_regions_is_cut_at_their_edges() -> None:
    spans = [VmRegion(0, 2 * P, "rw-p"), VmRegion(2 * P, 4 * P, "r--p", path="/lib/a")]
    rows = rows_of(spans, [ReasonedRange(0, 4 * P, HEAP)])
    assert [(row.start, row.end, row.path) for row in rows] == [
        (0, 2 * P, ""),
        (2 * P, 4 * P, "/lib/a"),
    ]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=12),
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20), st.sampled_from([1, 2, 3]))),
)
def test_rows_cover_each_region_once_with_the_reasons_of_each_page(
    sizes: list[tuple[int, int]], wanted: list[tuple[int, int, int]]
) -> None:
    spans, at = [], 0
    for size, gap in sizes:
        spans.append(VmRegion(at + gap * P, at + (gap + size) * P, "rw-p"))
        at += (gap + size) * P
    ranges = union(ReasonedRange(s * P, (s + n) * P, Reason(bits)) for s, n, bits in wanted)
    rows = rows_of(spans, ranges)
    pages = [page for row in rows for page in range(row.start, row.end, P)]
    assert pages == [page for span in spans for page in range(span.start, span.end, P)]
    for row in rows:
        for page in range(row.start, row.end, P):
            held = [item.reasons for item in ranges if item.start <= page < item.end]
            assert row.reasons == (held[0] if held else Reason(0))


def test_totals_count_a_row_under_each_reason_and_what_is_left_out() -> None:
    found = region_map(
        RegionRow(0, 4 * P, 3 * P, "rw-p", "", HEAP | STACK),
        RegionRow(4 * P, 6 * P, P, "rw-p", "", Reason(0)),
        RegionRow(6 * P, 9 * P, 0, "---p", "", Reason(0)),
    )
    assert found.by_reason() == {HEAP: (4 * P, 3 * P), STACK: (4 * P, 3 * P)}
    assert found.left_out() == (2 * P, P)


def test_differences_are_ranges_with_other_reasons() -> None:
    one = region_map(
        RegionRow(0, 4 * P, 0, "rw-p", "", HEAP), RegionRow(8 * P, 9 * P, 0, "rw-p", "", STACK)
    )
    other = region_map(
        RegionRow(0, 2 * P, 0, "rw-p", "", HEAP),
        RegionRow(2 * P, 5 * P, 0, "rw-p", "", Reason(0)),
        RegionRow(6 * P, 7 * P, 0, "rw-p", "", STACK),
    )
    assert differences(one, other) == [
        Change(2 * P, 4 * P, HEAP, Reason(0)),
        Change(6 * P, 7 * P, None, STACK),
        Change(8 * P, 9 * P, STACK, None),
    ]
    assert differences(one, one) == []


MAP = region_map(
    RegionRow(0x7000_0000, 0x7040_0000, 0x30_0000, "rw-p", "", HEAP | Reason.DAC_READ),
    RegionRow(0x7040_0000, 0x7041_0000, 0x1_0000, "r--p", '/lib/a,"b".so', Reason(0)),
    estimate=Estimate(2_000_000, 1_500_000, 0.35, 0.05, 4e9, 1e9, 9_000_000, 8_000_000, "us"),
)


def test_the_summary_tells_totals_and_cost() -> None:
    assert list(regions.summary(MAP)) == [
        "Shop (7)",
        "A heap dump holds     SIZE  RESIDENT",
        "GC heap             4.2 MB    3.1 MB",
        "read by the DAC     4.2 MB    3.1 MB",
        "left out           65.5 kB   65.5 kB",
        "file: about 1.5 MB on disk (2.0 MB with zero pages), 9.0 MB free here",
        "pause: about 350 ms, 50 ms with --async",
        "memory for --async: 8.0 MB left (us)",
        "the process stood still for 20 ms",
        "warning: gc: late",
    ]


def test_the_table_has_a_line_a_region() -> None:
    assert regions.table(regions.whole(MAP.rows)) == [
        "   START       END     SIZE  RESIDENT  IN DUMP  PROT  REASONS           FILE",
        "70000000  70400000   4.2 MB    3.1 MB   4.2 MB  rw-p  GC_HEAP+DAC_READ",
        '70400000  70410000  65.5 kB   65.5 kB   0.0 kB  r--p  -                 /lib/a,"b".so',
    ]


def test_a_narrow_terminal_shows_what_matters_most() -> None:
    assert regions.table(regions.whole(MAP.rows), 80) == [
        "   START     SIZE  IN DUMP  PROT  REASONS    FILE",
        "70000000   4.2 MB   4.2 MB  rw-p  GC_HEAP+1",
        '70400000  65.5 kB   0.0 kB  r--p  -          a,"b".so',
    ]


def test_parts_of_one_region_are_one_line() -> None:
    rows = [
        RegionRow(0, 2 * P, P, "rw-p", "", HEAP),
        RegionRow(2 * P, 4 * P, P, "rw-p", "", Reason(0)),
        RegionRow(4 * P, 5 * P, P, "rw-p", "", STACK),
        RegionRow(5 * P, 6 * P, P, "r--p", "", STACK),
        RegionRow(7 * P, 8 * P, P, "r--p", "", STACK),
    ]
    assert regions.whole(rows) == [
        (RegionRow(0, 5 * P, 3 * P, "rw-p", "", HEAP | STACK), 3 * P),
        (RegionRow(5 * P, 6 * P, P, "r--p", "", STACK), P),
        (RegionRow(7 * P, 8 * P, P, "r--p", "", STACK), P),
    ]


def test_csv_can_be_read_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(run(["7", "-q", "--csv"], monkeypatch, capsys))))
    assert rows[0]["start"] == "0x70000000"
    assert rows[0]["reasons"] == "GC_HEAP+DAC_READ"
    assert rows[1]["path"] == '/lib/a,"b".so'
    assert rows[1]["resident"] == "65536"


def run(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What the command writes to standard output, its source being MAP."""
    monkeypatch.setattr("minidumper.regionmap.map_process", lambda *_, **__: MAP)
    with regions.command.make_context("regions", list(words)) as context:
        regions.command.invoke(context)
    return capsys.readouterr().out


def test_json_and_filters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(run(["7", "--json", "--reason", "none"], monkeypatch, capsys))
    assert [row["start"] for row in told["regions"]] == ["0x70400000"]
    assert told["totals"]["GC_HEAP"] == {"size": 0x40_0000, "resident": 0x30_0000}
    assert told["estimate"]["disk_size"] == 1_500_000
    told = json.loads(run(["7", "--json", "--reason", "gc-heap"], monkeypatch, capsys))
    assert [row["reasons"] for row in told["regions"]] == [["GC_HEAP", "DAC_READ"]]


def test_sorting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(["7", "--csv", "--sort", "path"], monkeypatch, capsys).splitlines()
    assert told[1].startswith("0x70400000")
    told = run(["7", "--csv", "--sort", "size"], monkeypatch, capsys).splitlines()
    assert told[1].startswith("0x70000000")


def test_a_map_does_not_differ_from_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run(["7", "--diff", "7"], monkeypatch, capsys)
    assert told.endswith("no region differs\n")
    assert json.loads(run(["7", "--diff", "7", "--json"], monkeypatch, capsys)) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["7", "--reason", "heap"], "there is no reason heap"),
        (["7", "-m", "x"], "there is no mode x"),
        (["7", "--csv", "--json"], "contradict"),
        (["7", "--html", "a.html", "--diff", "8"], "not a difference"),
    ],
)
def test_usage_errors(
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UsageError, match=said):
        run(words, monkeypatch, capsys)


def test_the_page_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    assert run(["7", "--html", str(path)], monkeypatch, capsys) == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Exception, match="exists already"):
        run(["7", "--html", str(path)], monkeypatch, capsys)
    run(["7", "--html", str(path), "--overwrite"], monkeypatch, capsys)


def test_data_cannot_end_the_script_it_stands_in() -> None:
    evil = region_map(RegionRow(P, 2 * P, P, "r--p", "</script><!--\udcff", HEAP))
    text = regionpage.page(evil)
    text.encode()
    assert text.count("</script>") == 2
    assert "<!--" not in text.partition('id="data">')[2]
