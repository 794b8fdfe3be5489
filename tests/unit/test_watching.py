"""Which texts and types count."""

from __future__ import annotations

import pytest

from minidumper.monitor.conditions import ExceptionCondition
from minidumper.watching import TextFilter, Verdict


@pytest.mark.parametrize(
    ("texts", "excluded", "matches"),
    [
        ((), (), True),
        (("RARE",), (), True),
        (("a * one",), (), True),
        (("a ???? one",), (), True),
        (("a ??? one",), (), False),
        (("[a-z]",), (), False),
        (("nothing", "rare"), (), True),
        (("rare",), ("one",), False),
        ((), ("common",), True),
    ],
)
def test_texts(texts: tuple[str, ...], excluded: tuple[str, ...], matches: bool) -> None:
    text = 'E0434352.Faults.RareException ("a rare one")'
    assert TextFilter(texts, excluded).matches(text) is matches


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (ExceptionCondition(), Verdict.MATCHES),
        (ExceptionCondition(types=["My.*"]), Verdict.MATCHES),
        (ExceptionCondition(types=["System.Exception"]), Verdict.MATCHES),
        (ExceptionCondition(types=["Rare"]), Verdict.DISMISSED),
        (ExceptionCondition(texts=TextFilter(["text"])), Verdict.BY_TEXT),
        (ExceptionCondition(texts=TextFilter(excluded=["text"])), Verdict.BY_TEXT),
        (ExceptionCondition(texts=TextFilter(["text"]), types=["Rare"]), Verdict.DISMISSED),
    ],
)
def test_types(condition: ExceptionCondition, verdict: Verdict) -> None:
    assert condition.verdict(["My.Rare", "System.Exception", "System.Object"]) is verdict
