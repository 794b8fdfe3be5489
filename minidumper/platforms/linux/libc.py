"""The libc functions that Python's `os` lacks, each declared once; failure raises OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import (
    c_char,
    c_int,
    c_int64,
    c_long,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from typing import Any

# ptrace(2), linux/ptrace.h
PTRACE_CONT = 7
PTRACE_DETACH = 17
PTRACE_SYSCALL = 24
PTRACE_SETOPTIONS = 0x4200
PTRACE_GETEVENTMSG = 0x4201
PTRACE_GETSIGINFO = 0x4202
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_GETSIGMASK = 0x420A
PTRACE_SETSIGMASK = 0x420B
PTRACE_GET_SYSCALL_INFO = 0x420E
PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
PTRACE_O_TRACESYSGOOD = 1
PTRACE_O_TRACECLONE = 8
PTRACE_EVENT_CLONE = 3
PTRACE_SYSCALL_INFO_EXIT = 2
PTRACE_EVENT_STOP = 128
WALL = 0x40000000  # __WALL, linux/wait.h: threads too

# Register sets, linux/elf.h
NT_PRSTATUS = 1
NT_FPREGSET = 2
NT_X86_XSTATE = 0x202

SA_SIGINFO = 4  # asm-generic/signal-defs.h
_SYS_PERF_EVENT_OPEN = 298
_SYS_BPF = 321
_PERF_FLAG_FD_CLOEXEC = 8  # linux/perf_event.h
_SYS_CLOSE_RANGE = 436  # asm-generic/unistd.h
SIGINFO_SIZE = 128  # SI_MAX_SIZE, asm-generic/siginfo.h

# prctl(2), linux/prctl.h
PR_SET_PDEATHSIG = 1

AT_FDCWD = -100  # fcntl.h
AT_SYMLINK_FOLLOW = 0x400


class IoVec(ctypes.Structure):
    """struct iovec, sys/uio.h."""

    _fields_ = (("iov_base", c_void_p), ("iov_len", c_size_t))


class SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info at the exit of a system call, linux/ptrace.h."""

    _fields_ = (
        ("op", c_uint8),
        ("padding", c_uint8 * 3),
        ("arch", c_uint32),
        ("instruction_pointer", c_uint64),
        ("stack_pointer", c_uint64),
        ("result", c_int64),
        ("rest", c_uint64 * 6),
    )


class SigAction(ctypes.Structure):
    """struct sigaction of glibc and musl on x86-64, signal.h."""

    _fields_ = (
        ("handler", c_void_p),
        ("mask", c_uint64 * 16),
        ("flags", c_int),
        ("restorer", c_void_p),
    )


SIGNAL_HANDLER = ctypes.CFUNCTYPE(None, c_int, c_void_p, c_void_p)


def _check(result: Any, function: Any, arguments: Any) -> Any:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function.__name__}: {os.strerror(code)}")
    return result


_libc = ctypes.CDLL(None, use_errno=True)

_ptrace = _libc.ptrace
_ptrace.restype = c_long
_ptrace.argtypes = (c_long, c_int, c_void_p, c_void_p)
_ptrace.errcheck = _check

_process_vm_readv = _libc.process_vm_readv
_process_vm_readv.restype = c_ssize_t
_process_vm_readv.argtypes = (c_int, c_void_p, c_ulong, c_void_p, c_ulong, c_ulong)
_process_vm_readv.errcheck = _check

_prctl = _libc.prctl
_prctl.restype = c_int
_prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl.errcheck = _check

_sigaction = _libc.sigaction
_sigaction.restype = c_int
_sigaction.argtypes = (c_int, c_void_p, c_void_p)
_sigaction.errcheck = _check

_syscall = _libc.syscall
_syscall.restype = c_long
_syscall.argtypes = (c_long, c_ulong, c_ulong, c_ulong, c_ulong, c_ulong)
_syscall.errcheck = _check

_linkat = _libc.linkat
_linkat.restype = c_int
_linkat.argtypes = (c_int, ctypes.c_char_p, c_int, ctypes.c_char_p, c_int)
_linkat.errcheck = _check


def ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    """ptrace(2).

    Raises:
        OSError: as the kernel says.
    """
    return int(_ptrace(request, tid, address, data))


def get_regset(tid: int, kind: int, max_size: int) -> bytes:
    """A register set of a stopped thread, in the kernel's layout (PTRACE_GETREGSET).

    Raises:
        OSError: the thread is gone, or the processor has no such set.
    """
    buffer = ctypes.create_string_buffer(max_size)
    vector = IoVec(ctypes.addressof(buffer), max_size)
    _ptrace(PTRACE_GETREGSET, tid, kind, ctypes.addressof(vector))
    return buffer.raw[: vector.iov_len]


def set_regset(tid: int, kind: int, data: bytes) -> None:
    """Give a stopped thread a whole register set at once (PTRACE_SETREGSET).

    Raises:
        OSError: the thread is gone, or the kernel refuses the values.
    """
    buffer = ctypes.create_string_buffer(data, len(data))
    vector = IoVec(ctypes.addressof(buffer), len(data))
    _ptrace(PTRACE_SETREGSET, tid, kind, ctypes.addressof(vector))


def get_event_message(tid: int) -> int:
    """What came with the event a thread is stopped at: a new pid (PTRACE_GETEVENTMSG).

    Raises:
        OSError: the thread is gone.
    """
    message = c_ulong()
    _ptrace(PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def get_signal_mask(tid: int) -> int:
    """The signals that a stopped thread blocks, signal n as bit n - 1 (PTRACE_GETSIGMASK).

    Raises:
        OSError: the thread is gone.
    """
    mask = c_uint64()
    _ptrace(PTRACE_GETSIGMASK, tid, ctypes.sizeof(mask), ctypes.addressof(mask))
    return mask.value


def set_signal_mask(tid: int, mask: int) -> None:
    """Have a stopped thread block these signals (PTRACE_SETSIGMASK).

    Raises:
        OSError: the thread is gone.
    """
    value = c_uint64(mask)
    _ptrace(PTRACE_SETSIGMASK, tid, ctypes.sizeof(value), ctypes.addressof(value))


def get_syscall_info(tid: int) -> SyscallInfo:
    """Where a thread is stopped at a system call (PTRACE_GET_SYSCALL_INFO).

    Raises:
        OSError: the thread is gone.
    """
    info = SyscallInfo()
    _ptrace(PTRACE_GET_SYSCALL_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
    return info


def get_rseq_area(tid: int) -> int:
    """The address of a thread's struct rseq, 0 for none (PTRACE_GET_RSEQ_CONFIGURATION).

    Raises:
        OSError: the thread is gone, or the kernel is older than 5.13.
    """
    configuration = (c_uint64 * 3)()  # address; size and signature; flags and padding
    size = ctypes.sizeof(configuration)
    _ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, size, ctypes.addressof(configuration))
    return configuration[0]


@contextmanager
def signal_action(number: int, handler: Any) -> Iterator[None]:
    """Have `handler`, a SIGNAL_HANDLER, take signal `number`; then again who took it before.

    Raises:
        OSError: the signal cannot be taken.
    """
    before = SigAction()
    ours = SigAction(handler=ctypes.cast(handler, c_void_p).value, flags=SA_SIGINFO)
    _sigaction(number, ctypes.addressof(ours), ctypes.addressof(before))
    try:
        yield
    finally:
        _sigaction(number, ctypes.addressof(before), None)


def has_close_range() -> bool:
    """Whether the kernel has close_range(2): 5.9 or later."""
    try:
        _syscall(_SYS_CLOSE_RANGE, 1, 0, 0, 0, 0)  # first above last: refused where it is known
    except OSError as err:
        return err.errno == errno.EINVAL
    return True


def open_breakpoint() -> int:
    """The descriptor of a hardware breakpoint in our own code (perf_event_open(2)).

    Raises:
        OSError: we may have none.
    """
    where = ctypes.cast(_libc.getpid, c_void_p).value
    # struct perf_event_attr: type 5 (breakpoint), its size, period 1, exclude_kernel, exclude_hv,
    # HW_BREAKPOINT_X, address and length: what the guardian asks for.
    attribute = struct.pack("<II5QIIQQ", 5, 72, 0, 1, 0, 0, 1 << 5 | 1 << 6, 0, 4, where, 8)
    buffer = ctypes.create_string_buffer(attribute)
    any_cpu = no_group = c_ulong(-1).value
    arguments = (ctypes.addressof(buffer), 0, any_cpu, no_group, _PERF_FLAG_FD_CLOEXEC)
    return int(_syscall(_SYS_PERF_EVENT_OPEN, *arguments))


def open_bpf_map() -> int:
    """The descriptor of a small BPF map (bpf(2)).

    Raises:
        OSError: we may have none.
    """
    # union bpf_attr, BPF_MAP_CREATE: a hash map (1), sizes of key and value, entries.
    buffer = ctypes.create_string_buffer(struct.pack("<IIII", 1, 8, 8, 1), 128)
    return int(_syscall(_SYS_BPF, 0, ctypes.addressof(buffer), 128, 0, 0))


def get_siginfo(tid: int) -> bytes:
    """The siginfo_t of the signal a thread is stopped at (PTRACE_GETSIGINFO).

    Raises:
        OSError: the thread is gone, or not at a signal.
    """
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
    _ptrace(PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(buffer))
    return buffer.raw


def process_vm_read(pid: int, address: int, buffer: memoryview) -> int:
    """Bytes copied from another process into `buffer` (process_vm_readv(2)); may be fewer.

    Raises:
        OSError: nothing could be read.
    """
    size = buffer.nbytes
    local = IoVec(ctypes.addressof(c_char.from_buffer(buffer)), size)
    remote = IoVec(address, size)
    return int(_process_vm_readv(pid, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0))


def prctl(option: int, argument: int) -> int:
    """prctl(2) with one argument.

    Raises:
        OSError: as the kernel says.
    """
    return int(_prctl(option, argument, 0, 0, 0))


def link_descriptor(descriptor: int, path: str) -> None:
    """Give an unnamed file (O_TMPFILE, open(2)) its name; never replaces an existing one.

    Raises:
        OSError: FileExistsError among others.
    """
    source = f"/proc/self/fd/{descriptor}".encode()
    _linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(path), AT_SYMLINK_FOLLOW)
