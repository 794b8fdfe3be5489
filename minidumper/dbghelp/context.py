"""The registers of a thread: CONTEXT of both processors, and the host's own."""

from __future__ import annotations

from ctypes import Structure, c_uint8, c_uint16, c_uint32, c_uint64

from .layout import by_bits


class M128A(Structure):
    """A 128-bit register.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-m128a
    """

    _fields_ = (("Low", c_uint64), ("High", c_uint64))


class CONTEXT_AMD64(Structure):
    """CONTEXT of x64; FltSave is the FXSAVE area.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-context
    """

    _fields_ = (
        *((f"P{n}Home", c_uint64) for n in range(1, 7)),
        ("ContextFlags", c_uint32),
        ("MxCsr", c_uint32),
        *((f"Seg{name}", c_uint16) for name in ("Cs", "Ds", "Es", "Fs", "Gs", "Ss")),
        ("EFlags", c_uint32),
        *((f"Dr{n}", c_uint64) for n in (0, 1, 2, 3, 6, 7)),
        *((name, c_uint64) for name in ("Rax", "Rcx", "Rdx", "Rbx", "Rsp", "Rbp", "Rsi", "Rdi")),
        *((f"R{n}", c_uint64) for n in range(8, 16)),
        ("Rip", c_uint64),
        ("FltSave", c_uint8 * 512),
        ("VectorRegister", M128A * 26),
        ("VectorControl", c_uint64),
        ("DebugControl", c_uint64),
        ("LastBranchToRip", c_uint64),
        ("LastBranchFromRip", c_uint64),
        ("LastExceptionToRip", c_uint64),
        ("LastExceptionFromRip", c_uint64),
    )


class FLOATING_SAVE_AREA(Structure):
    """The x87 state of 32-bit x86 (FSAVE area); named WOW64_FLOATING_SAVE_AREA on x64.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-wow64_floating_save_area
    """

    _fields_ = (
        ("ControlWord", c_uint32),
        ("StatusWord", c_uint32),
        ("TagWord", c_uint32),
        ("ErrorOffset", c_uint32),
        ("ErrorSelector", c_uint32),
        ("DataOffset", c_uint32),
        ("DataSelector", c_uint32),
        ("RegisterArea", c_uint8 * 80),
        ("Cr0NpxState", c_uint32),
    )


class CONTEXT_X86(Structure):
    """CONTEXT of 32-bit x86; named WOW64_CONTEXT on x64.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-wow64_context
    """

    _fields_ = (
        ("ContextFlags", c_uint32),
        *((f"Dr{n}", c_uint32) for n in (0, 1, 2, 3, 6, 7)),
        ("FloatSave", FLOATING_SAVE_AREA),
        *((f"Seg{name}", c_uint32) for name in ("Gs", "Fs", "Es", "Ds")),
        *((name, c_uint32) for name in ("Edi", "Esi", "Ebx", "Edx", "Ecx", "Eax", "Ebp", "Eip")),
        ("SegCs", c_uint32),
        ("EFlags", c_uint32),
        ("Esp", c_uint32),
        ("SegSs", c_uint32),
        ("ExtendedRegisters", c_uint8 * 512),
    )


CONTEXT = by_bits(CONTEXT_X86, CONTEXT_AMD64)
"""The CONTEXT of this Python's host."""
