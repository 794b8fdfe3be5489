"""The MiniDumpWriteDump interop: sizes, documentation, other hosts."""

from __future__ import annotations

import ctypes
import enum
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from minidumper import dbghelp
from minidumper.dbghelp import (
    CONTEXT_AMD64,
    CONTEXT_X86,
    HOST_BITS,
    MINI_DUMP_READ_DUMP_STREAM,
    MINI_DUMP_WRITE_DUMP,
    MINIDUMP_CALLBACK_TYPE,
    MINIDUMP_EXCEPTION,
    MINIDUMP_STREAM_TYPE,
    MINIDUMP_TYPE,
    for_bits,
    wide_string,
)

# Checked by hand against the header; tests/oracle has a compiler check every member.
ON_DISK = {
    "MINIDUMP_HEADER": 32,
    "MINIDUMP_DIRECTORY": 12,
    "MINIDUMP_LOCATION_DESCRIPTOR": 8,
    "MINIDUMP_LOCATION_DESCRIPTOR64": 16,
    "MINIDUMP_MEMORY_DESCRIPTOR": 16,
    "MINIDUMP_MEMORY_DESCRIPTOR64": 16,
    "MINIDUMP_STRING": 4,
    "MINIDUMP_THREAD": 48,
    "MINIDUMP_THREAD_EX": 64,
    "MINIDUMP_THREAD_INFO": 64,
    "MINIDUMP_THREAD_NAME": 12,
    "MINIDUMP_MODULE": 108,
    "VS_FIXEDFILEINFO": 52,
    "MINIDUMP_UNLOADED_MODULE": 24,
    "MINIDUMP_MEMORY64_LIST": 16,
    "MINIDUMP_MEMORY_INFO": 48,
    "MINIDUMP_MEMORY_INFO_LIST": 16,
    "MINIDUMP_EXCEPTION": 152,
    "MINIDUMP_EXCEPTION_STREAM": 168,
    "MINIDUMP_SYSTEM_INFO": 56,
    "MINIDUMP_MISC_INFO": 24,
    "MINIDUMP_MISC_INFO_2": 44,
    "MINIDUMP_MISC_INFO_3": 232,
    "MINIDUMP_MISC_INFO_4": 832,
    "MINIDUMP_MISC_INFO_5": 1364,  # as dbghelp 10.0 writes it
    "MINIDUMP_HANDLE_DESCRIPTOR": 32,
    "MINIDUMP_HANDLE_DESCRIPTOR_2": 40,
    "MINIDUMP_HANDLE_DATA_STREAM": 16,
    "MINIDUMP_TOKEN_INFO_HEADER": 16,
    "MINIDUMP_FUNCTION_TABLE_DESCRIPTOR": 32,
    "MINIDUMP_FUNCTION_TABLE_STREAM": 24,
    "MINIDUMP_SYSTEM_MEMORY_INFO_1": 492,
    "MINIDUMP_SYSTEM_MEMORY_INFO_2": 524,  # as dbghelp 10.0 writes it
    "MINIDUMP_PROCESS_VM_COUNTERS_1": 80,
    "MINIDUMP_PROCESS_VM_COUNTERS_2": 152,  # as dbghelp 10.0 writes it
}
IN_CALLS = {  # for hosts of 32 and 64 bits
    "EXCEPTION_RECORD": (80, 152),
    "EXCEPTION_POINTERS": (8, 16),
    "MINIDUMP_EXCEPTION_INFORMATION": (12, 16),
    "MINIDUMP_EXCEPTION_INFORMATION64": (24, 24),
    "MINIDUMP_USER_STREAM": (12, 16),
    "MINIDUMP_USER_STREAM_INFORMATION": (8, 12),
    "MINIDUMP_THREAD_CALLBACK": (744, 1280),
    "MINIDUMP_THREAD_EX_CALLBACK": (760, 1296),
    "MINIDUMP_MODULE_CALLBACK": (92, 104),
    "MINIDUMP_IO_CALLBACK": (20, 28),
    "MINIDUMP_VM_POST_READ_CALLBACK": (24, 28),
    "MINIDUMP_CALLBACK_INPUT": (772, 1312),
    "MINIDUMP_CALLBACK_OUTPUT": (52, 52),
    "MINIDUMP_CALLBACK_INFORMATION": (8, 16),
}


def records() -> Iterator[Any]:
    for name in dbghelp.__all__:
        kind = getattr(dbghelp, name)
        if isinstance(kind, type) and hasattr(kind, "_fields_"):
            yield kind


@pytest.mark.parametrize("name", ON_DISK)
def test_size_in_the_file(name: str) -> None:
    kind = getattr(dbghelp, name)
    assert ctypes.sizeof(kind) == ON_DISK[name]
    assert for_bits(kind, 32) is for_bits(kind, 64) is kind


@pytest.mark.parametrize("name", IN_CALLS)
@pytest.mark.parametrize("bits", [32, 64])
def test_size_in_calls(name: str, bits: int) -> None:
    assert ctypes.sizeof(for_bits(getattr(dbghelp, name), bits)) == IN_CALLS[name][bits == 64]


@pytest.mark.parametrize("bits", [32, 64])
def test_no_member_is_missing(bits: int) -> None:
    """Members follow each other without a gap that alignment does not explain."""
    for host in records():
        kind = for_bits(host, bits)
        if issubclass(kind, ctypes.Union):
            continue
        end = 0
        for name, member in kind._fields_:
            assert 0 <= getattr(kind, name).offset - end < ctypes.alignment(kind), (kind, name)
            end = getattr(kind, name).offset + ctypes.sizeof(member)
        assert ctypes.sizeof(kind) - end < ctypes.alignment(kind), kind


def test_members_of_the_callback() -> None:
    call, answer = dbghelp.MINIDUMP_CALLBACK_INPUT, dbghelp.MINIDUMP_CALLBACK_OUTPUT
    offset = {32: 12, 64: 16}[HOST_BITS]
    for name in ("Status", "Thread", "Module", "Io", "SecondaryFlags", "VmPostRead"):
        assert getattr(call, name).offset == offset
    for name in ("ModuleWriteFlags", "MemoryBase", "CheckCancel", "Handle", "VmRegion", "Status"):
        assert getattr(answer, name).offset == 0
    assert answer.MemorySize.offset == 8
    assert answer.Continue.offset == 48
    assert answer.VmQueryResult.offset == 4


def test_members_are_wide_enough() -> None:
    answer = dbghelp.MINIDUMP_CALLBACK_OUTPUT()
    answer.VmRegion.BaseAddress = 0x7FFF_FFFF_F000
    answer.VmRegion.RegionSize = 0x2_0000_0000
    assert (answer.MemoryBase, answer.VmRegion.RegionSize) == (0x7FFF_FFFF_F000, 0x2_0000_0000)


def test_another_host() -> None:
    other = 96 - HOST_BITS
    call = for_bits(dbghelp.MINIDUMP_CALLBACK_INPUT, other)
    context = {32: CONTEXT_X86, 64: CONTEXT_AMD64}[other]
    assert type(call().Thread.Context) is context
    assert call().ProcessHandle == 0
    assert for_bits(call, other) is call
    assert for_bits(dbghelp.EXCEPTION_RECORD, other) is not dbghelp.EXCEPTION_RECORD
    assert for_bits(MINIDUMP_EXCEPTION, other) is MINIDUMP_EXCEPTION
    assert for_bits(dbghelp.CONTEXT, other) is context


def test_contexts() -> None:
    assert ctypes.sizeof(CONTEXT_AMD64) == 0x4D0
    assert ctypes.sizeof(CONTEXT_X86) == 0x2CC
    assert (CONTEXT_AMD64.ContextFlags.offset, CONTEXT_AMD64.Rip.offset) == (0x30, 0xF8)
    assert (CONTEXT_X86.Eip.offset, CONTEXT_X86.Esp.offset) == (0xB8, 0xC4)


def test_flags() -> None:
    single = [flag for flag in MINIDUMP_TYPE if flag.value.bit_count() == 1]
    assert [flag.value for flag in single] == [1 << n for n in range(27)]
    assert [kind.value for kind in MINIDUMP_CALLBACK_TYPE] == list(range(23))
    assert [kind.value for kind in MINIDUMP_STREAM_TYPE if kind < 0x7000] == list(range(26))


def test_everything_is_documented() -> None:
    for name in dbghelp.__all__:
        kind = getattr(dbghelp, name)
        if kind in records() or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
            sentence, _, link = (inspect.getdoc(kind) or "").partition("\n\n")
            assert sentence.endswith("."), name
            assert link.startswith("https://learn.microsoft.com/windows/win32/"), name


def test_prototypes() -> None:
    assert len(MINI_DUMP_WRITE_DUMP.argtypes) == 7
    assert len(MINI_DUMP_READ_DUMP_STREAM.argtypes) == 5
    ctypes.CFUNCTYPE(MINI_DUMP_WRITE_DUMP.restype, *MINI_DUMP_WRITE_DUMP.argtypes)


def test_wide_string() -> None:
    data = ctypes.create_string_buffer("C:\\é\U0001f600".encode("utf-16-le") + b"\0\0x")
    assert wide_string(ctypes.addressof(data)) == "C:\\é\U0001f600"
    assert wide_string(None) == ""
