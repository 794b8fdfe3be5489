"""Chains of signal frames: small programs that a stopped thread runs without any code of ours.

A frame whose instruction pointer is `syscall; ret` and whose stack pointer is the next frame is one
system call: its `ret` goes to the C library's own `rt_sigreturn`, which loads the next frame. The
last frame gives the thread back all that it had. One PTRACE_SETREGSET sends a thread into a chain;
from then on it needs nobody, so our own death at any moment leaves it intact.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...formats.context import USER_REGS
from ...target import MemoryReader
from . import libc
from .sigframe import RDI_OFFSET, FpuArea, SigFrame, signal_frame

# System calls of x86-64, linux arch/x86/entry/syscalls/syscall_64.tbl.
_CLONE = 56
_WAIT4 = 61
_EXIT_GROUP = 231
_CLOSE_RANGE = 436

# clone(2), linux/sched.h
_CLONE_VM = 0x100
_CLONE_PARENT_SETTID = 0x0010_0000

_RED_ZONE = 128  # bytes below the stack pointer that a function may use (System V ABI, 3.2.2)
_NOBODY = 2**31 - 1  # a pid that no process has: above PID_MAX_LIMIT, linux/threads.h
_ALL_DESCRIPTORS = 2**32 - 1

_FPU_ALIGNMENT = 64  # XRSTOR, Intel SDM volume 1, 13.5.2
_FRAME_SIZE = 5 * _FPU_ALIGNMENT  # bytes from frame to frame, 312 or more

ALL_SIGNALS = 2**64 - 1
# Segments and flags of a thread in 64 bit code: linux arch/x86/include/asm/segment.h, Intel SDM
# volume 1, 3.4.3 (interrupts on, and the bit that is always set).
USER_CS = 0x33
_FLAT = {"cs": USER_CS, "ss": 0x2B, "eflags": 0x202}

NO_SYSCALL = 2**64 - 1
"""orig_rax of a thread that is not in a system call."""

# linux/errno.h: how an interrupted system call says that it wants to be started again.
ERESTART = frozenset({-512, -513, -514})
ERESTART_RESTARTBLOCK = -516
_SYSCALL_SIZE = 2  # bytes of the instruction


class Gadgets(NamedTuple):
    """Addresses of code that the target has anyway."""

    syscall_ret: int
    sigreturn: int

    def are_in(self, memory: MemoryReader) -> bool:
        """Whether they are still where they were found."""
        code = bytearray(max(map(len, _SIGRETURNS)))
        for address, patterns in (
            (self.syscall_ret, (_SYSCALL_RET,)),
            (self.sigreturn, _SIGRETURNS),
        ):
            count = memory.read_into(address, memoryview(code))
            if not code[:count].startswith(patterns):
                return False
        return True


_SYSCALL_RET = bytes.fromhex("0f05c3")  # syscall; ret
# mov $15, %rax (or %eax); syscall: the restorer that a C library gives to sigaction(2)
_SIGRETURNS = (bytes.fromhex("48c7c00f0000000f05"), bytes.fromhex("b80f0000000f05"))


def find_gadgets(code: Iterable[tuple[int, bytes]]) -> Gadgets | None:
    """The gadgets in (address, bytes) pieces of code, None where one of the two is missing."""
    syscall_ret = sigreturn = 0
    for address, data in code:
        at = data.find(_SYSCALL_RET)
        if at >= 0 and not syscall_ret:
            syscall_ret = address + at
        at = max(data.find(pattern) for pattern in _SIGRETURNS)
        if at >= 0 and not sigreturn:
            sigreturn = address + at
        if syscall_ret and sigreturn:
            return Gadgets(syscall_ret, sigreturn)
    return None


def signed(value: int) -> int:
    """A register as a signed number."""
    return value - 2**64 if value >> 63 else value


class SavedThread(NamedTuple):
    """What a thread gets back at the end of a chain.

    `registers` are its user_regs_struct by name, `xstate` is its regset NT_X86_XSTATE, `mask` its
    blocked signals.
    """

    registers: Mapping[str, int]
    xstate: bytes
    mask: int

    def resumed(self) -> dict[str, int]:
        """The registers to run on with: an interrupted system call is started again.

        The kernel does the same where no handler runs (arch/x86/kernel/signal.c), save for a
        timed call, ERESTART_RESTARTBLOCK: rt_sigreturn makes it forget how much time was left, so
        such a call starts anew with all its time.
        """
        registers = dict(self.registers)
        result = signed(registers["rax"])
        if registers["orig_rax"] != NO_SYSCALL and (
            result in ERESTART or result == ERESTART_RESTARTBLOCK
        ):
            registers["rax"] = registers["orig_rax"]
            registers["rip"] -= _SYSCALL_SIZE
        return registers


class Chain(NamedTuple):
    """A chain of frames: `data` belongs at `address`, the user_regs_struct `entry` starts it.

    `first_call` and `final` are (instruction pointer, stack pointer) after its first system call
    and at its end.
    """

    address: int
    data: bytes
    entry: bytes
    first_call: tuple[int, int]
    final: tuple[int, int]


class _Layout:
    """Where a chain of `count` frames lies on a thread's stack: the frames, then FPU state.

    All that is still needed lies above the stack pointer at any time: a signal handler, or the
    chain of someone who comes after our death, may use what lies below.
    """

    def __init__(self, gadgets: Gadgets, thread: SavedThread, area: FpuArea, count: int) -> None:
        self._gadgets = gadgets
        self._thread = thread
        self._fpstate = area.lay(thread.xstate)
        size = count * _FRAME_SIZE + len(self._fpstate)
        self._address = (thread.registers["rsp"] - _RED_ZONE - size) & -_FPU_ALIGNMENT
        self.slots = range(self._address, self._address + count * _FRAME_SIZE, _FRAME_SIZE)

    def call(self, number: int, following: int, *arguments: int) -> bytes:
        """A frame that makes a system call, then goes on with the frame at slot `following`."""
        registers = dict(zip(("rdi", "rsi", "rdx"), arguments, strict=False)) | _FLAT
        registers |= {
            "rax": number,
            "rip": self._gadgets.syscall_ret,
            "rsp": self.slots[following],
        }
        return self._frame(registers, ALL_SIGNALS, 0)

    def resume(self) -> bytes:
        """The frame that gives the thread back what it had."""
        return self._frame(self._thread.resumed(), self._thread.mask, self.slots.stop)

    def chain(self, frames: Sequence[bytes]) -> Chain:
        """The frames in the order of their slots as a chain that begins with the first."""
        entry = dict(self._thread.registers)
        # rt_sigreturn finds its frame eight bytes below the stack pointer; orig_rax keeps the
        # kernel from starting an interrupted system call again before the chain has begun.
        entry |= {
            "rip": self._gadgets.sigreturn,
            "rsp": self.slots[0] + SigFrame.uc.offset,
            "orig_rax": NO_SYSCALL,
        }
        resumed = self._thread.resumed()
        return Chain(
            self._address,
            b"".join(frame.ljust(_FRAME_SIZE, b"\0") for frame in frames) + self._fpstate,
            struct.pack(f"<{len(USER_REGS)}Q", *(entry[name] for name in USER_REGS)),
            (self._gadgets.syscall_ret + _SYSCALL_SIZE, self.slots[1]),
            (resumed["rip"], resumed["rsp"]),
        )

    def _frame(self, registers: Mapping[str, int], mask: int, fpstate: int) -> bytes:
        return signal_frame(
            registers, return_to=self._gadgets.sigreturn, mask=mask, fpstate=fpstate
        )


def fork_chain(gadgets: Gadgets, thread: SavedThread, area: FpuArea) -> Chain:
    """The chain that makes a copy of the process.

    The thread clones a first child, waits for it and resumes. The first child closes all its
    descriptors, so that no socket or pipe stays open on its account, clones a second one that
    shares its memory, and exits. The second child, nobody's duty to wait for, exits too, unless a
    tracer holds it: it is the copy.
    """
    layout = _Layout(gadgets, thread, area, 7)
    slots = layout.slots
    return layout.chain(
        [
            # The kernel writes the child's pid over the argument of the wait (clone(2)).
            layout.call(_CLONE, 1, _CLONE_PARENT_SETTID, slots[3], slots[1] + RDI_OFFSET),
            layout.call(_WAIT4, 2, _NOBODY, 0, libc.WALL),
            layout.resume(),
            layout.call(_CLOSE_RANGE, 4, 0, _ALL_DESCRIPTORS, 0),
            layout.call(_CLONE, 5, _CLONE_VM, slots[6]),
            layout.call(_EXIT_GROUP, 5, 0),
            layout.call(_EXIT_GROUP, 6, 0),
        ]
    )


def reap_chain(gadgets: Gadgets, thread: SavedThread, area: FpuArea, pid: int) -> Chain:
    """The chain that makes a process wait for its dead child `pid` (in its own namespace)."""
    layout = _Layout(gadgets, thread, area, 2)
    return layout.chain([layout.call(_WAIT4, 1, pid, 0, libc.WALL | os.WNOHANG), layout.resume()])
