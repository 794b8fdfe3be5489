"""Where all managed exceptions pass in .NET 8 and older: a native function that has no symbol.

RaiseTheExceptionInternalOnly (src/coreclr/vm/excep.cpp of dotnet/runtime) has the exception object
as its first argument. The JIT's helpers for `throw` and for `throw;` both call it, as does the
runtime where it throws by itself. It is told from what else they call by what it calls: PAL's
RaiseException, which calls a function that throws a PAL_SEHException.
"""

from __future__ import annotations

import bisect
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..errors import MemoryFaultError
from ..formats.elfimage import ElfImage, function_starts, lookup_symbol, read_image
from ..target import Target

_MAX_CODE = 1 << 16
"""Bytes of the longest function that is looked at."""
_CALLS = (0xE8, 0xE9)  # CALL and JMP rel32: Intel SDM volume 2
_TYPE_NAME = b"16PAL_SEHException\0"  # mangled; the second word of its std::type_info


def raise_site(target: Target, runtime_base: int, helpers: Sequence[int]) -> int:
    """The address of that function, which each of `helpers` calls; 0 where it is not certain."""
    with suppress(MemoryFaultError):
        image = read_image(target.memory.read, runtime_base)
        thrower = _cxa_throw(target)
        if image and thrower:
            code = _Code(image, thrower)
            found = [site for site in code.called_by_all(helpers) if code.raises(site)]
            return found[0] if len(found) == 1 else 0
    return 0


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

    def called_by_all(self, functions: Sequence[int]) -> list[int]:
        return sorted(frozenset.intersection(*(self._called(each) for each in functions)))

    def raises(self, function: int) -> bool:
        """Whether it calls what calls a function that throws a PAL_SEHException."""
        return any(
            self._throws(thrower)
            for inner in self._called(function)
            for thrower in self._called(inner)
        )

    def _called(self, function: int) -> frozenset[int]:
        return self._begins.intersection(self._targets(function))

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
