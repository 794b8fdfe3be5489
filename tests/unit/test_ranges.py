"""Range arithmetic against a model that knows single pages only."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from minidumper.ranges import (
    PAGE_SIZE,
    MemoryRange,
    Reason,
    ReasonedRange,
    clip,
    fill_gaps,
    joined,
    page_aligned,
    union,
)

_REASONS = [Reason.GC_HEAP, Reason.STACK, Reason.DAC_READ, Reason.GC_HEAP | Reason.METADATA]

_ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12), st.sampled_from(_REASONS)).map(
        lambda t: ReasonedRange(t[0] * PAGE_SIZE, (t[0] + t[1]) * PAGE_SIZE, t[2])
    ),
    max_size=30,
)
_allowed = st.lists(st.integers(0, 70), max_size=20, unique=True).map(
    lambda pages: [MemoryRange(page * PAGE_SIZE, (page + 1) * PAGE_SIZE) for page in sorted(pages)]
)


def _pages(ranges: list[ReasonedRange]) -> dict[int, Reason]:
    pages: dict[int, Reason] = {}
    for start, end, reasons in ranges:
        for page in range(start, end, PAGE_SIZE):
            pages[page] = pages.get(page, Reason(0)) | reasons
    return pages


def _assert_sorted_and_disjoint(ranges: list[ReasonedRange]) -> None:
    for before, after in itertools.pairwise(ranges):
        assert before.start < before.end <= after.start


@given(_ranges)
def test_union_keeps_every_page_and_reason(ranges: list[ReasonedRange]) -> None:
    result = union(ranges)
    _assert_sorted_and_disjoint(result)
    assert _pages(result) == _pages(ranges)


@given(_ranges, _allowed)
def test_clip_keeps_exactly_what_is_allowed(
    ranges: list[ReasonedRange], allowed: list[MemoryRange]
) -> None:
    inside = {part.start for part in allowed}
    expected = {page: why for page, why in _pages(ranges).items() if page in inside}
    assert _pages(clip(union(ranges), allowed)) == expected


@given(_ranges, st.integers(1, 10))
def test_filled_gaps_lose_nothing_and_reach_the_limit(
    ranges: list[ReasonedRange], limit: int
) -> None:
    allowed = [MemoryRange(0, 100 * PAGE_SIZE)]
    before = union(ranges)
    after = fill_gaps(before, allowed, limit)
    _assert_sorted_and_disjoint(after)
    pages = _pages(after)
    assert all(pages[page] & why == why for page, why in _pages(before).items())
    assert len(joined(after)) <= max(limit, 1)


def test_gaps_are_filled_only_inside_one_mapping() -> None:
    first, second = (
        ReasonedRange(0, PAGE_SIZE, Reason.STACK),
        ReasonedRange(4 * PAGE_SIZE, 5 * PAGE_SIZE, Reason.STACK),
    )
    separate = [MemoryRange(0, PAGE_SIZE), MemoryRange(4 * PAGE_SIZE, 5 * PAGE_SIZE)]
    assert fill_gaps([first, second], separate, 1) == [first, second]


def test_page_aligned_covers_each_touched_page() -> None:
    assert page_aligned(4095, 4097, Reason.STACK) == (0, 8192, Reason.STACK)
