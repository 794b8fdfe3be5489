"""What the debug loop itself reads of exceptions: their types, and what they say."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_size_t, sizeof
from typing import NamedTuple

from ...watching import Rule
from . import memoryapi

_MAX_MESSAGE = 4096  # characters that are looked at
_POINTER = sizeof(c_size_t)  # a target has as many bits as we have
_LENGTH, _TEXT = _POINTER, _POINTER + 4  # in a String: its length (int32), its characters (UTF-16)


class Thrown(NamedTuple):
    """An exception object, and the rule for it; 0 and None where they are not known."""

    address: int
    rule: Rule | None


class Thrower:
    """Knows of threads where they keep what they threw last, and of types what they mean."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._slots: dict[int, int] = {}
        self._rules: dict[int, Rule] = {}
        self._word = c_size_t()
        self._done = c_size_t()

    def learn(self, tid: int, rule: Rule) -> None:
        """Keep what a type means, and where a thread has the handle of what it threw last."""
        if rule.slot:
            self._slots[tid] = rule.slot
        self._rules[rule.method_table] = rule

    def forget(self, tid: int) -> None:
        """A thread has ended; its id may come again."""
        self._slots.pop(tid, None)

    def last(self, tid: int) -> Thrown:
        """What a thread threw last: three reads."""
        return self._at(self._slots.get(tid, 0) and self._read(self._slots[tid]))

    def inner(self, thrown: Thrown) -> Thrown:
        """The exception inside one."""
        offset = thrown.rule.inner_offset if thrown.rule else 0
        return self._at(offset and thrown.address + offset)

    def message(self, thrown: Thrown) -> str:
        """What an exception says; "" for one that says nothing."""
        if not thrown.address or thrown.rule is None or not thrown.rule.message_offset:
            return ""
        text = self._read(thrown.address + thrown.rule.message_offset)
        length = min(self._read(text + _LENGTH) & 0x7FFFFFFF, _MAX_MESSAGE) if text else 0
        buffer = ctypes.create_string_buffer(2 * length)
        memoryapi.ReadProcessMemory(
            self._handle, text + _TEXT, buffer, 2 * length, byref(self._done)
        )
        return buffer.raw[: self._done.value].decode("utf-16-le", "replace")

    def _at(self, place: int) -> Thrown:
        """The exception that a pointer points to, 0 for none."""
        address = self._read(place)
        return Thrown(address, self._rules.get(self._read(address)))

    def _read(self, address: int) -> int:
        """The pointer at an address, 0 where there is none."""
        if not address:
            return 0
        done = memoryapi.ReadProcessMemory(
            self._handle, address, byref(self._word), _POINTER, byref(self._done)
        )
        return self._word.value if done else 0
