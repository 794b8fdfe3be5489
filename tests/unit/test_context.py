"""CONTEXT: fields at the offsets of winnt.h (the numbers are those of its C_ASSERTs and MSDN)."""

from __future__ import annotations

import struct

from minidumper.formats.context import USER_REGS, amd64_context, user_regs

REGS = {name: 0x1111 * (i + 1) + (i << 40) for i, name in enumerate(USER_REGS)}
RAW = struct.pack(f"<{len(USER_REGS)}Q", *REGS.values())
OFFSETS = {
    "rax": 0x78,
    "rcx": 0x80,
    "rdx": 0x88,
    "rbx": 0x90,
    "rsp": 0x98,
    "rbp": 0xA0,
    "rsi": 0xA8,
    "rdi": 0xB0,
    "r8": 0xB8,
    "r9": 0xC0,
    "r10": 0xC8,
    "r11": 0xD0,
    "r12": 0xD8,
    "r13": 0xE0,
    "r14": 0xE8,
    "r15": 0xF0,
    "rip": 0xF8,
}
SEGMENTS = {"cs": 0x38, "ds": 0x3A, "es": 0x3C, "fs": 0x3E, "gs": 0x40, "ss": 0x42}


def test_registers_are_where_winnt_says() -> None:
    fpregs = bytes(i % 251 for i in range(512))
    context = amd64_context(RAW, fpregs)
    assert len(context) == 0x4D0
    for name, offset in OFFSETS.items():
        assert struct.unpack_from("<Q", context, offset)[0] == REGS[name], name
    for name, offset in SEGMENTS.items():
        assert struct.unpack_from("<H", context, offset)[0] == REGS[name] & 0xFFFF, name
    assert struct.unpack_from("<I", context, 0x44)[0] == REGS["eflags"] & 0xFFFFFFFF
    assert struct.unpack_from("<I", context, 0x30)[0] == 0x10000F
    assert context[0x34:0x38] == fpregs[24:28]
    assert context[0x100:0x300] == fpregs
    assert not any(context[0x300:])


def test_without_floating_point_state() -> None:
    context = amd64_context(RAW, b"")
    assert struct.unpack_from("<I", context, 0x30)[0] == 0x100007
    assert not any(context[0x100:])


def test_user_regs_by_name() -> None:
    assert user_regs(RAW) == REGS
