"""Exceptions of Windows by their codes."""

from __future__ import annotations

MANAGED = 0xE043_4352
"""EXCEPTION_COMPLUS, corexcep.h."""
FOR_DEBUGGERS = (0x0424_2420, 0xE044_4143)
"""By which the runtime tells debuggers of its start and of its changes (clrdata.h): they answer."""
NOISE = (
    0x0234_5678,  # the JIT gives a method up
    0x406D_1388,  # a thread's name for debuggers, MS_VC_EXCEPTION
    0xE06D_7363,  # of C++, which native parts of the runtime throw and catch
)
"""Thrown at all times, and of no interest."""

_NAMES = {
    0x8000_0002: "DATATYPE_MISALIGNMENT",
    0x8000_0003: "BREAKPOINT",
    0x8013_1623: "FAILFAST",  # COR_E_FAILFAST, corerror.h
    0xC000_0005: "ACCESS_VIOLATION",
    0xC000_0006: "IN_PAGE_ERROR",
    0xC000_001D: "ILLEGAL_INSTRUCTION",
    0xC000_0094: "INTEGER_DIVIDE_BY_ZERO",
    0xC000_0096: "PRIVILEGED_INSTRUCTION",
    0xC000_00FD: "STACK_OVERFLOW",
    0xC000_0374: "HEAP_CORRUPTION",
    0xC000_0409: "STACK_BUFFER_OVERRUN",
    0xE06D_7363: "CPP_EXCEPTION",
}
"""STATUS_* of ntstatus.h where nothing else is said."""


def name_of(code: int) -> str:
    """What an exception is called; its code where it has no name."""
    return _NAMES.get(code, f"0x{code:08X}")
