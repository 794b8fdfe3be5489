"""Signal frames of x86-64, as the kernel lays them and rt_sigreturn(2) reads them back."""

from __future__ import annotations

import ctypes
import functools
import signal
import struct
from collections.abc import Mapping
from ctypes import c_int32, c_uint16, c_uint32, c_uint64
from typing import NamedTuple

from ...errors import CaptureError
from . import libc

# linux arch/x86/include/uapi/asm/sigcontext.h: where the kernel describes the FPU state of a frame.
_SW_RESERVED_OFFSET = 464
_SW_RESERVED = struct.Struct("<IIQI28x")  # magic1, extended_size, xfeatures, xstate_size
_FP_XSTATE_MAGIC1 = 0x46505853
_FP_XSTATE_MAGIC2 = struct.pack("<I", 0x46505845)
_XSTATE_BV_OFFSET = 512  # Intel SDM volume 1, 13.4.2

# linux arch/x86/include/uapi/asm/ucontext.h: there is extended FPU state, the stack segment is
# that of the frame.
_UC_FLAGS = 0x1 | 0x2 | 0x4


class SigContext(ctypes.Structure):
    """struct sigcontext_64, linux arch/x86/include/uapi/asm/sigcontext.h."""

    _fields_ = (
        *((name, c_uint64) for name in ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")),
        *((name, c_uint64) for name in ("rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx")),
        *((name, c_uint64) for name in ("rsp", "rip", "eflags")),
        *((name, c_uint16) for name in ("cs", "gs", "fs", "ss")),
        *((name, c_uint64) for name in ("err", "trapno", "oldmask", "cr2", "fpstate")),
        ("reserved", c_uint64 * 8),
    )


class UContext(ctypes.Structure):
    """struct ucontext, linux include/uapi/asm-generic/ucontext.h."""

    _fields_ = (
        ("uc_flags", c_uint64),
        ("uc_link", c_uint64),
        ("ss_sp", c_uint64),
        ("ss_flags", c_int32),
        ("ss_padding", c_uint32),
        ("ss_size", c_uint64),
        ("uc_mcontext", SigContext),
        ("uc_sigmask", c_uint64),
    )


class SigFrame(ctypes.Structure):
    """struct rt_sigframe without its siginfo, linux arch/x86/include/asm/sigframe.h."""

    _fields_ = (("pretcode", c_uint64), ("uc", UContext))


REGISTERS = tuple(field[0] for field in SigContext._fields_[:18])
RDI_OFFSET = SigFrame.uc.offset + UContext.uc_mcontext.offset + SigContext.rdi.offset
"""Where in a frame the first argument of a system call lies."""


def signal_frame(
    registers: Mapping[str, int], *, return_to: int, mask: int, fpstate: int = 0
) -> bytes:
    """A frame that gives a thread these registers, this signal mask and this FPU state.

    `registers` go by the names of user_regs_struct; what they lack is 0. `return_to` is the
    address of a restorer; `fpstate` that of the FPU state, 0 for a fresh one.
    """
    frame = SigFrame(pretcode=return_to)
    frame.uc.uc_flags = _UC_FLAGS
    frame.uc.uc_sigmask = mask  # uc_stack stays empty: the alternate stack is left alone
    context = frame.uc.uc_mcontext
    for name in REGISTERS:
        setattr(context, name, registers.get(name, 0))
    context.cs = registers["cs"]
    context.ss = registers["ss"]
    context.fpstate = fpstate
    return bytes(frame)


class FpuArea(NamedTuple):
    """How the kernel lays FPU state into a signal frame: `size` bytes and their description."""

    size: int
    xfeatures: int
    sw_reserved: bytes

    def holds(self, xstate: bytes) -> bool:
        """Whether all that is in use in `xstate` (a regset NT_X86_XSTATE) has its place here."""
        if len(xstate) < self.size:
            return False
        (in_use,) = struct.unpack_from("<Q", xstate, _XSTATE_BV_OFFSET)
        return not in_use & ~self.xfeatures

    def lay(self, xstate: bytes) -> bytes:
        """The FPU state of a frame from a regset NT_X86_XSTATE."""
        end = _SW_RESERVED_OFFSET + len(self.sw_reserved)
        return (
            xstate[:_SW_RESERVED_OFFSET]
            + self.sw_reserved
            + xstate[end : self.size]
            + _FP_XSTATE_MAGIC2
        )


@functools.cache
def fpu_area() -> FpuArea:
    """The FPU layout of this kernel and processor, read off a real signal frame of our own.

    Raises:
        CaptureError: the kernel puts no extended FPU state into a frame.
    """
    found = b""

    def look(_number: int, _info: int, context: int) -> None:
        nonlocal found
        fpstate = UContext.from_address(context).uc_mcontext.fpstate
        found = ctypes.string_at(fpstate + _SW_RESERVED_OFFSET, _SW_RESERVED.size)

    number = signal.SIGRTMAX
    with libc.signal_action(number, libc.SIGNAL_HANDLER(look)):
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        try:
            signal.raise_signal(number)  # to this thread, delivered before the call returns
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    magic, _, xfeatures, size = _SW_RESERVED.unpack(found)
    if magic != _FP_XSTATE_MAGIC1:
        raise CaptureError("signal frames hold no extended FPU state here", stage="snapshot")
    return FpuArea(size, xfeatures, found)
