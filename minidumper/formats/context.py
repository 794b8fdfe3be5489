"""Register sets of Linux as the CONTEXT structure that the DAC wants."""

from __future__ import annotations

import struct

# struct user_regs_struct of x86-64, in its order; sys/user.h, linux arch/x86/include/asm/user_64.h.
USER_REGS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
    *("ds", "es", "fs", "gs"),
)
USER_REGS_SIZE = 8 * len(USER_REGS)
"""Bytes of user_regs_struct, the content of NT_PRSTATUS's pr_reg: 216."""
FPREGS_SIZE = 512
"""Bytes of user_fpregs_struct, the FXSAVE area (Intel SDM volume 1, 10.5.1)."""

AMD64_CONTEXT_SIZE = 0x4D0
"""Bytes of CONTEXT for AMD64, winnt.h:
https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-context"""
# CONTEXT_AMD64 | CONTROL | INTEGER | SEGMENTS, and FLOATING_POINT where it is known (winnt.h).
_FLAGS = 0x0010_0007
_FLOATING_POINT = 0x8
_CONTEXT_FLAGS_OFFSET = 0x30
_INTEGERS_OFFSET = 0x78
_FLT_SAVE_OFFSET = 0x100
_MXCSR_OFFSET = 24  # in the FXSAVE area
# ContextFlags, MxCsr, six segment registers, EFlags
_HEAD = struct.Struct("<II6HI")
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")
_INTEGERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)


def user_regs(data: bytes) -> dict[str, int]:
    """The registers of a user_regs_struct by name."""
    return dict(zip(USER_REGS, struct.unpack_from(f"<{len(USER_REGS)}Q", data), strict=True))


def amd64_context(prstatus_regs: bytes, fpregs: bytes) -> bytes:
    """A CONTEXT from user_regs_struct (216 bytes) and the FXSAVE area (512 bytes, or none).

    `fpregs` may be empty: then the context says that it has no floating point state.
    """
    regs = user_regs(prstatus_regs)
    has_fp = len(fpregs) >= FPREGS_SIZE
    context = bytearray(AMD64_CONTEXT_SIZE)
    _HEAD.pack_into(
        context,
        _CONTEXT_FLAGS_OFFSET,
        _FLAGS | (_FLOATING_POINT if has_fp else 0),
        int.from_bytes(fpregs[_MXCSR_OFFSET : _MXCSR_OFFSET + 4], "little"),
        *(regs[name] & 0xFFFF for name in _SEGMENTS),
        regs["eflags"] & 0xFFFFFFFF,
    )
    struct.pack_into(
        f"<{len(_INTEGERS)}Q", context, _INTEGERS_OFFSET, *(regs[name] for name in _INTEGERS)
    )
    if has_fp:
        # XMM_SAVE_AREA32 is the FXSAVE area itself.
        context[_FLT_SAVE_OFFSET : _FLT_SAVE_OFFSET + FPREGS_SIZE] = fpregs[:FPREGS_SIZE]
    return bytes(context)
