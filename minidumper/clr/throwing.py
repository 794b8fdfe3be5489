"""Where all managed exceptions pass: a native function of the runtime that has no symbol.

Up to .NET 8 it is RaiseTheExceptionInternalOnly (src/coreclr/vm/excep.cpp of dotnet/runtime), which
the JIT's helpers for `throw` and for `throw;` both call, as does the runtime where it throws by
itself. It is told from what else they call by what it calls: PAL's RaiseException, which calls a
function that throws a PAL_SEHException.

From .NET 9 on it is DispatchManagedException (src/coreclr/vm/exceptionhandling.cpp), which the
helper for `throw` leads to; `throw;` has another. It is told by the EXCEPTION_RECORD that it fills
in. .NET 9 has both, and a flag that both helpers look at: DOTNET_LegacyExceptionHandling.

Either has the exception object as its first argument.
"""

from __future__ import annotations

import bisect
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from ..errors import MemoryFaultError
from ..formats.elfimage import ElfImage, function_starts, lookup_symbol, read_image
from ..target import Target

_MAX_CODE = 1 << 16
"""Bytes of the longest function that is looked at."""
_CALLS = (0xE8, 0xE9)  # CALL and JMP rel32: Intel SDM volume 2
_MAX_CALLS = 3
"""From the helper to the function: 2 in .NET 9, 1 in 10."""
_RECORD = struct.pack("<II", 0xE0434352, 0x81)
"""Code and flags, moved as one: EXCEPTION_COMPLUS, corexcep.h; EXCEPTION_NONCONTINUABLE and
EXCEPTION_SOFTWARE_ORIGINATE, winnt.h."""
_TYPE_NAME = b"16PAL_SEHException\0"  # mangled; the second word of its std::type_info


class ThrowSite(NamedTuple):
    """The address of that function, and whether `throw;` passes it, too."""

    address: int
    sees_rethrows: bool


def throw_site(target: Target, runtime_base: int, throw: int, rethrow: int) -> ThrowSite | None:
    """That function, found from the JIT's two helpers; None where it is not certain."""
    with suppress(MemoryFaultError):
        image = read_image(target.memory.read, runtime_base)
        thrower = _cxa_throw(target)
        if image and thrower:
            return _site(target, _Code(image, thrower), throw, rethrow)
    return None


def _site(target: Target, code: _Code, throw: int, rethrow: int) -> ThrowSite | None:
    raising = [each for each in code.called(throw) & code.called(rethrow) if code.raises(each)]
    dispatching = code.dispatching(throw)
    if len(raising) > 1 or len(dispatching) > 1:
        return None
    if dispatching:
        flags = _writable(target, code.data(throw) & code.data(rethrow))
        if len(flags) > 1 or (raising and not flags):
            return None
        if not flags or code.byte(flags[0]):
            return ThrowSite(dispatching[0], sees_rethrows=False)
    return ThrowSite(raising[0], sees_rethrows=True) if raising else None


def _writable(target: Target, addresses: Iterable[int]) -> list[int]:
    regions = [r for r in target.regions() if "w" in r.protection]
    return [a for a in addresses if any(r.start <= a < r.end for r in regions)]


def _cxa_throw(target: Target) -> int:
    """Where C++ throws: https://itanium-cxx-abi.github.io/cxx-abi/abi-eh.html, 2.4.3."""
    for module in target.modules():
        if os.path.basename(module.path).startswith("libstdc++.so"):
            library = read_image(target.memory.read, module.base)
            return (library and lookup_symbol(library, "__cxa_throw")) or 0
    return 0


class _Code:
    """The runtime's functions, and what they call. Any four bytes behind a CALL's are looked at:
    what is none leads to no beginning of a function.
    """

    def __init__(self, image: ElfImage, thrower: int) -> None:
        self._image = image
        self._thrower = thrower
        self._starts = function_starts(image)
        self._begins = frozenset(self._starts)

    def called(self, function: int) -> frozenset[int]:
        return self._begins.intersection(self._targets(function))

    def data(self, function: int) -> frozenset[int]:
        return frozenset(self._addresses(function))

    def byte(self, address: int) -> int:
        return self._image.read(address, 1)[0]

    def raises(self, function: int) -> bool:
        """Whether it calls what calls a function that throws a PAL_SEHException."""
        return any(
            self._throws(thrower)
            for inner in self.called(function)
            for thrower in self.called(inner)
        )

    def dispatching(self, function: int) -> list[int]:
        """What it leads to that fills in the record of a managed exception."""
        level = reached = frozenset((function,))
        for _ in range(_MAX_CALLS):
            level = frozenset().union(*map(self.called, level)) - reached
            reached |= level
        return [each for each in reached if _RECORD in self._bytes(each)]

    def _throws(self, function: int) -> bool:
        return any(map(self._is_thrower, self._targets(function))) and any(
            map(self._is_type, self._addresses(function))
        )

    def _targets(self, function: int) -> Iterator[int]:
        code = self._bytes(function)
        for at in range(len(code) - 4):
            if code[at] in _CALLS:
                yield function + at + 5 + struct.unpack_from("<i", code, at + 1)[0]

    def _addresses(self, function: int) -> Iterator[int]:
        """What LEA has of the data: 48 or 4C, 8D, and a byte for a register and RIP + rel32."""
        code = self._bytes(function)
        for at in range(len(code) - 6):
            if code[at] | 4 == 0x4C and code[at + 1] == 0x8D and code[at + 2] & 0xC7 == 5:
                yield function + at + 7 + struct.unpack_from("<i", code, at + 3)[0]

    def _bytes(self, function: int) -> bytes:
        after = bisect.bisect_right(self._starts, function)
        if not after or after == len(self._starts):
            return b""
        return self._image.read(function, min(self._starts[after] - function, _MAX_CODE))

    def _is_thrower(self, address: int) -> bool:
        """Whether it is the jump to __cxa_throw in the linkage table: JMP [RIP + rel32]."""
        with suppress(MemoryFaultError):
            code = self._image.read(address, 12)
            at = code.find(b"\xff\x25", 0, 6)
            if at >= 0:
                slot = address + at + 6 + struct.unpack_from("<i", code, at + 2)[0]
                return self._word(slot) == self._thrower
        return False

    def _is_type(self, address: int) -> bool:
        with suppress(MemoryFaultError):
            name = self._word(address + 8)
            return self._image.read(name, len(_TYPE_NAME)) == _TYPE_NAME
        return False

    def _word(self, address: int) -> int:
        return int.from_bytes(self._image.read(address, 8), "little")
