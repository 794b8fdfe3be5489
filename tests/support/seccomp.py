"""Programs from which a seccomp filter keeps a system call."""

from __future__ import annotations

import sys

PTRACE, PERF_EVENT_OPEN = 101, 298  # asm/unistd_64.h

_FILTER = """
import ctypes, struct
# linux/filter.h: load the number of the system call; one gives EPERM, the rest passes
code = [(0x20, 0, 0, 0), (0x15, 0, 1, {number}), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in code))
header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, header, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
"""


def refusing(number: int) -> str:
    """Python that keeps a system call from its process from then on."""
    return _FILTER.format(number=number)


def prefix(number: int) -> list[str]:
    """Starts the program that follows without a system call."""
    run = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", f"{refusing(number)}\n{run}"]
