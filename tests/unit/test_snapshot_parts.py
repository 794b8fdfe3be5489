"""The parts of a snapshot that need no process: frames and chains."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from minidumper.formats.context import USER_REGS, user_regs
from tests.support import gates

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.platforms.linux import sigframe
from minidumper.platforms.linux.sigchain import (
    Gadgets,
    SavedThread,
    find_gadgets,
    fork_chain,
    reap_chain,
)
from minidumper.platforms.linux.sigframe import SigFrame, UContext, fpu_area, signal_frame

GADGETS = Gadgets(syscall_ret=0x7000_1000, sigreturn=0x7000_2000)
RSP = 0x7FFF_0000_1238


def thread(**registers: int) -> SavedThread:
    area = fpu_area()
    values = dict.fromkeys(USER_REGS, 0) | {
        "rsp": RSP,
        "orig_rax": 2**64 - 1,
        "cs": 0x33,
        "ss": 0x2B,
    }
    return SavedThread(values | registers, bytes(area.size), mask=0x1234)


@pytest.mark.gate("gcc")
def test_frames_are_laid_as_the_c_header_says(tmp_path: Path) -> None:
    names = ["r8", "rdi", "rax", "rsp", "rip", "eflags"]
    source = "#define _GNU_SOURCE\n#include <stddef.h>\n#include <stdio.h>\n#include <ucontext.h>\n"
    source += "#define AT(r) offsetof(ucontext_t, uc_mcontext.gregs) + 8 * r\n"
    source += "int main(void) { printf("
    source += '"%zu " ' * (len(names) + 4)
    source += ", offsetof(ucontext_t, uc_stack.ss_size), offsetof(ucontext_t, uc_sigmask),"
    source += " offsetof(ucontext_t, uc_mcontext.fpregs), AT(REG_CSGSFS),"
    source += ",".join(f"AT(REG_{name.replace('eflags', 'efl').upper()})" for name in names)
    source += "); }\n"
    program = tmp_path / "layout"
    subprocess.run(["gcc", "-x", "c", "-", "-o", program], input=source, text=True, check=True)
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    context = UContext.uc_mcontext
    ours = [UContext.ss_size.offset, UContext.uc_sigmask.offset]
    ours += [
        context.offset + getattr(sigframe.SigContext, name).offset
        for name in ["fpstate", "cs", *names]
    ]
    assert [int(word) for word in told] == ours


def test_the_fpu_area_is_that_of_a_real_frame() -> None:
    area = fpu_area()
    magic, extended, xfeatures, size = struct.unpack_from("<IIQI", area.sw_reserved)
    assert (magic, extended, xfeatures, size) == (
        0x46505853,
        area.size + 4,
        area.xfeatures,
        area.size,
    )
    assert area.xfeatures & 3 == 3  # x87 and SSE, Intel SDM volume 1, 13.1
    laid = area.lay(bytes([7]) * area.size)
    assert len(laid) == area.size + 4
    assert laid[464:512] == area.sw_reserved


def test_state_without_a_place_in_the_frame_is_seen() -> None:
    area = fpu_area()
    xstate = bytearray(area.size)
    assert area.holds(bytes(xstate))
    struct.pack_into("<Q", xstate, 512, 1 << 62)  # XSTATE_BV, a feature of the future
    assert not area.holds(bytes(xstate))
    assert not area.holds(bytes(100))


def test_a_frame_holds_what_it_was_given() -> None:
    registers = {"rdi": 5, "rip": 6, "rsp": 7, "cs": 0x33, "ss": 0x2B}
    frame = SigFrame.from_buffer_copy(signal_frame(registers, return_to=1, mask=2, fpstate=3))
    context = frame.uc.uc_mcontext
    assert (frame.pretcode, frame.uc.uc_sigmask, context.fpstate) == (1, 2, 3)
    assert (context.rdi, context.rip, context.rsp, context.cs, context.ss) == (5, 6, 7, 0x33, 0x2B)
    assert (frame.uc.ss_size, context.rax) == (0, 0)


@pytest.mark.parametrize("count", [7, 2])
def test_a_chain_lies_below_the_red_zone_with_all_it_needs_above(count: int) -> None:
    saved = thread(rip=0x4000, rax=9)
    area = fpu_area()
    chain = (
        fork_chain(GADGETS, saved, area) if count == 7 else reap_chain(GADGETS, saved, area, 4711)
    )
    assert chain.address % 64 == 0
    assert RSP - 128 - 64 < chain.address + len(chain.data) <= RSP - 128
    entry = user_regs(chain.entry)
    assert (entry["rip"], entry["orig_rax"]) == (GADGETS.sigreturn, 2**64 - 1)
    # The stack pointer only rises from frame to frame, up to the state of the thread itself.
    at, visited = entry["rsp"] - SigFrame.uc.offset, []
    while at < chain.address + len(chain.data):
        visited.append(at)
        frame = SigFrame.from_buffer_copy(chain.data, at - chain.address)
        assert frame.pretcode == GADGETS.sigreturn
        at = frame.uc.uc_mcontext.rsp
    assert visited == sorted(visited)
    assert at == RSP
    assert frame.uc.uc_mcontext.fpstate > visited[-1]
    assert frame.uc.uc_mcontext.fpstate % 64 == 0
    assert frame.uc.uc_sigmask == saved.mask
    assert chain.final == (0x4000, RSP)


@pytest.mark.parametrize("result", [-512, -513, -514, -516])
def test_an_interrupted_call_starts_again(result: int) -> None:
    resumed = thread(rip=0x4002, rax=result % 2**64, orig_rax=7).resumed()
    assert (resumed["rip"], resumed["rax"]) == (0x4000, 7)


@pytest.mark.parametrize(("result", "call"), [(-4, 7), (12, 7), (-512, -1)])
def test_all_else_goes_on_where_it_was(result: int, call: int) -> None:
    resumed = thread(rip=0x4002, rax=result % 2**64, orig_rax=call % 2**64).resumed()
    assert (resumed["rip"], resumed["rax"]) == (0x4002, result % 2**64)


def test_gadgets_are_found_in_any_piece_of_code() -> None:
    restorer = bytes.fromhex("48c7c00f0000000f05")
    assert find_gadgets([(0x1000, b"\x90\x0f\x05\xc3"), (0x2000, b"\x90\x90" + restorer)]) == (
        Gadgets(0x1001, 0x2002)
    )
    assert find_gadgets([(0x1000, restorer)]) is None
    assert find_gadgets([(0x1000, b"\x0f\x05\xc3")]) is None
    assert find_gadgets([]) is None
