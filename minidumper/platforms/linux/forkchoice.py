"""Which thread of a stopped process can be sent through a chain of signal frames."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import NamedTuple

from ...formats.context import USER_REGS_SIZE, user_regs
from ...target import VmRegion
from . import libc, procfs
from .ptrace import Tracer
from .sigchain import (
    ERESTART,
    ERESTART_RESTARTBLOCK,
    NO_SYSCALL,
    USER_CS,
    Chain,
    SavedThread,
    signed,
)
from .sigframe import FpuArea

_MAX_XSTATE = 1 << 16  # bytes, above any XSAVE area of today (AMX: 11 KB)
_STACK_MARGIN = 4096  # bytes left below a chain for the frame of a signal handler
_RESTART_SYSCALL = 219  # linux arch/x86/entry/syscalls/syscall_64.tbl
_SYSCALL = bytes.fromhex("0f05")
_RSEQ_CS_OFFSET = 8  # struct rseq, linux/rseq.h


class Candidate(NamedTuple):
    """A thread and the chain that it would be sent through."""

    tid: int
    chain: Chain


def candidates(
    tracer: Tracer,
    regions: Sequence[VmRegion],
    memory: int,
    area: FpuArea,
    build: Callable[[SavedThread], Chain],
    reasons: list[str],
) -> Iterator[Candidate]:
    """The threads that can be sent, best first; `reasons` gets a line for each that cannot.

    `memory` is a descriptor of the target's memory.
    """
    ranked = []
    for tid, pending in tracer.signals.items():
        if pending:
            reasons.append(f"thread {tid} has a signal to take")
        else:
            regs = user_regs(libc.get_regset(tid, libc.NT_PRSTATUS, USER_REGS_SIZE))
            ranked.append((_rank(regs), tid, regs))
    for _, tid, regs in sorted(ranked, key=itemgetter(0, 1)):
        xstate = libc.get_regset(tid, libc.NT_X86_XSTATE, _MAX_XSTATE)
        reason = _unfit(tracer.pid, tid, regs, memory)
        if not reason and not area.holds(xstate):
            reason = "has FPU state that a signal frame of ours does not hold"
        if not reason:
            chain = build(SavedThread(regs, xstate, libc.get_signal_mask(tid)))
            if _has_room(chain, regs, regions, memory):
                yield Candidate(tid, chain)
                continue
            reason = "has no room on its stack"
        reasons.append(f"thread {tid} {reason}")


def _rank(regs: Mapping[str, int]) -> int:
    """How much a thread would notice: 0 waits in a call that starts again without loss, 1 runs."""
    if regs["orig_rax"] == NO_SYSCALL:
        return 1
    result = signed(regs["rax"])
    if result == ERESTART_RESTARTBLOCK:
        return 2  # a timed call: it would wait longer than it asked for
    return 0 if result in ERESTART else 1


def _unfit(pid: int, tid: int, regs: Mapping[str, int], memory: int) -> str:
    """Why a thread cannot be sent, "" where it can."""
    if regs["cs"] != USER_CS:
        return "runs 32 bit code"
    if _is_restarted(regs, memory):
        return "is in a timed system call that was interrupted before"
    with open(f"/proc/{pid}/task/{tid}/status", encoding="utf-8", errors="replace") as file:
        status = procfs.parse_status(file.read())
    if status.seccomp:
        return "has a seccomp filter, which may end it"
    if status.shadow_stack:
        return "has a shadow stack, which rt_sigreturn checks"
    if status.deliverable_signals and _rank(regs) != 1:
        return "has a signal to take, which may end its system call"
    if _rank(regs) == 1 and _may_be_in_rseq(tid, memory):
        return "may be in a restartable sequence"
    return ""


def _is_restarted(regs: Mapping[str, int], memory: int) -> bool:
    """Whether a thread is in restart_syscall(2), or about to be.

    That is how a timed call goes on after a stop. What call it was, only the kernel knows, and
    rt_sigreturn makes it forget.
    """
    if regs["orig_rax"] == _RESTART_SYSCALL:
        return True
    return regs["rax"] == _RESTART_SYSCALL and _read(memory, regs["rip"], 2) == _SYSCALL


def _may_be_in_rseq(tid: int, memory: int) -> bool:
    """Whether a thread may be in a restartable sequence, which must not be left and continued.

    The kernel aborts a sequence only where it finds the instruction pointer inside (rseq(2)).
    """
    try:
        area = libc.get_rseq_area(tid)
    except OSError:  # a kernel before 5.13 does not tell
        return True
    return area != 0 and _read(memory, area + _RSEQ_CS_OFFSET, 8) != bytes(8)


def _has_room(
    chain: Chain, regs: Mapping[str, int], regions: Sequence[VmRegion], memory: int
) -> bool:
    """Whether a chain lies on the thread's own stack, with some of it left below.

    A thread's control block lies at the top of its stack (glibc, musl), so an alternate signal
    stack or a coroutine's is told from it: what lies below those may be anyone's.
    """
    index = bisect_right(regions, regs["rsp"], key=attrgetter("start")) - 1
    if index < 0:
        return False
    stack = regions[index]
    own = stack.path == "[stack]" or regs["rsp"] < regs["fs_base"] < stack.end
    bottom = chain.address - _STACK_MARGIN
    if regs["rsp"] >= stack.end or "w" not in stack.protection or not own or bottom < stack.start:
        return False
    # Guard pages need not be regions of their own (MADV_GUARD_INSTALL, madvise(2)).
    size = regs["rsp"] - bottom
    return len(_read(memory, bottom, size)) == size


def _read(memory: int, address: int, size: int) -> bytes:
    """What can be read there."""
    try:
        return os.pread(memory, size, address)
    except OSError:
        return b""
