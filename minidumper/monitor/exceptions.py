"""What an event tells of an exception, with the help of the CLR side."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..planning import Planner
from ..report import ExceptionInfo
from ..watching import MANAGED_CODE, RANGE_CHECK, EventKind, Rule, WatchEvent

NEVER_THROWN = ("System.ExecutionEngineException", "System.StackOverflowException")
"""What the runtime calls its own ends by: FailFast, and a stack that is full."""

_RUNTIME_ENDS = (signal.SIGABRT, int(MANAGED_CODE, 16), 0x8013_1623)
"""How the runtime ends itself; on Windows also by COR_E_FAILFAST, corerror.h."""

_UNMADE: Mapping[int, Sequence[str]] = {
    signal.SIGSEGV: ("System.NullReferenceException", "System.SystemException"),
    signal.SIGFPE: (
        "System.DivideByZeroException",
        "System.ArithmeticException",
        "System.SystemException",
    ),
    RANGE_CHECK: ("System.IndexOutOfRangeException", "System.SystemException"),
}
"""What the runtime is yet to make: the signals of faults of managed code, or kinds of places."""
_BASES = ("System.Exception", "System.Object")


class Described(NamedTuple):
    """An exception, and the names of its type and of those that it is derived from."""

    info: ExceptionInfo
    types: Sequence[str]
    in_doubt: bool = False
    """Whether the CLR side could say nothing: then it counts, lest a moment is lost."""

    @property
    def is_managed(self) -> bool:
        """Whether it is no signal, nor an exception of the system alone."""
        return self.info.code == MANAGED_CODE


def describe_throw(planner: Planner, event: WatchEvent) -> Described:
    """An exception that is about to be thrown, for the first time or again."""
    fault = next((types for types in _UNMADE.values() if types[0] == event.type), None)
    if fault and not event.address:  # its object is yet to be made
        return Described(_managed({}, event, chance=1), (*fault, *_BASES))
    if event.address:
        facts = planner.exception(address=event.address)
    else:  # thrown again
        facts = planner.exception(tid=event.own_tid)
    if not facts and planner.has_failed:
        return undescribed(event)
    return Described(_managed(facts, event, chance=1), facts.get("types", ()))


def describe_signal(planner: Planner, event: WatchEvent) -> Described:
    """What ends the process: the runtime's end of an unhandled exception, or something else."""
    if event.number in _RUNTIME_ENDS:  # whatever made it
        facts = planner.exception(tid=event.own_tid)
        if facts:
            return Described(_managed(facts, event, chance=2), facts["types"])
        if planner.has_failed:
            return undescribed(event)
    return _as_signal(event)


def undescribed(event: WatchEvent) -> Described:
    """What the event alone tells, where the CLR side can say nothing."""
    if event.kind is EventKind.EXCEPTION:
        return Described(_managed({}, event, chance=1), (), in_doubt=True)
    return _as_signal(event)._replace(in_doubt=event.number in _RUNTIME_ENDS)


def describe_type(planner: Planner, event: WatchEvent) -> tuple[Rule, Sequence[str]]:
    """A rule for all exceptions of a type, without its verdict; the names of it and its bases.

    There are no names where the CLR side can say nothing.
    """
    if event.method_table and not event.address:
        names = _UNMADE[event.method_table]
        return Rule(event.method_table, names[0]), (*names, *_BASES)
    facts = planner.exception(address=event.address, tid=0 if event.address else event.own_tid)
    if not facts and planner.has_failed:
        return Rule(event.method_table, "?"), ()
    names = facts.get("types", ("?",))
    offsets = (facts.get(key, 0) for key in ("message_offset", "inner_offset", "slot"))
    return Rule(facts.get("method_table", event.method_table), names[0], *offsets), names


def causes(inner: Iterable[tuple[str, str]]) -> str:
    """What is told of the exceptions inside one."""
    return "".join(f', because of {kind} ("{text}")' for kind, text in inner)


def _as_signal(event: WatchEvent) -> Described:
    name = event.type or signal.Signals(event.number).name
    return Described(ExceptionInfo(f"{event.number:08X}", 2, event.own_tid, type=name), (name,))


def _managed(facts: Mapping[str, Any], event: WatchEvent, *, chance: int) -> ExceptionInfo:
    return ExceptionInfo(
        code=MANAGED_CODE,
        chance=chance,
        tid=event.own_tid,
        type=facts["types"][0] if facts else event.type,
        message=facts["message"] if facts else event.message,
        hresult=facts.get("hresult", 0),
        address=facts.get("address", event.address),
        inner=tuple((kind, text) for kind, text in facts.get("inner", ())),
    )
