"""How the structures are laid out: packed to 4 bytes, and the same for hosts of 32 and 64 bits.

minidumpapiset.h includes pshpack4.h. Widths are fixed (c_uint32, never wintypes, whose DWORD has 8
bytes on Linux); only pointers are as wide as the host's, and `for_bits` gives the other width.
"""

from __future__ import annotations

import ctypes
from ctypes import Array, Structure, Union, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

HOST_BITS = 8 * ctypes.sizeof(c_void_p)
"""Bits of a pointer of this Python, 32 or 64."""

# The common base of all C function types has no public name.
_POINTERS = (c_void_p, ctypes._Pointer, *ctypes.CFUNCTYPE(None).__bases__)
_VARIANTS: dict[type, dict[int, type]] = {}


class Packed(Structure):
    """A structure whose members are aligned to 4 bytes at most."""

    _pack_ = 4
    _layout_ = "ms"


class PackedUnion(Union):
    """A union whose members are aligned to 4 bytes at most."""

    _pack_ = 4
    _layout_ = "ms"


def by_bits(for_32: type, for_64: type) -> Any:
    """The host's one of two types that differ by more than pointers; `for_bits` knows both."""
    host = for_64 if HOST_BITS == 64 else for_32
    _VARIANTS[host] = {32: for_32, 64: for_64}
    return host


@cache
def for_bits(kind: Any, bits: int) -> Any:
    """A structure or union as a host of `bits` (32 or 64) has it; its pointers are integers then.

    Everything that is the same on both hosts is returned as it is.
    """
    if bits == HOST_BITS:
        return kind
    if kind in _VARIANTS:
        return _VARIANTS[kind][bits]
    if issubclass(kind, _POINTERS):
        return c_uint64 if bits == 64 else c_uint32
    if issubclass(kind, Array):
        return for_bits(kind._type_, bits) * kind._length_
    if not issubclass(kind, (Structure, Union)):
        return kind
    fields = tuple((name, for_bits(field, bits)) for name, field in kind._fields_)
    if fields == kind._fields_:
        return kind
    namespace = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "_anonymous_": getattr(kind, "_anonymous_", ()),
        "_fields_": fields,
    }
    return type(kind)(kind.__name__, kind.__bases__, namespace)
