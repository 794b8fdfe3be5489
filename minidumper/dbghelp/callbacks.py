"""The structures that MiniDumpWriteDump and its callback take, for this Python's host.

Pointers read as int, or None for NULL. What has no page is linked to the one it is used on.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int32, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any

from .constants import EXCEPTION_MAXIMUM_PARAMETERS
from .context import CONTEXT
from .layout import Packed, PackedUnion, by_bits
from .streams import MINIDUMP_MEMORY_INFO, VS_FIXEDFILEINFO


class EXCEPTION_RECORD(Structure):
    """An exception with addresses of the host's width.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-exception_record
    """

    _fields_ = (
        ("ExceptionCode", c_uint32),
        ("ExceptionFlags", c_uint32),
        ("ExceptionRecord", c_void_p),
        ("ExceptionAddress", c_void_p),
        ("NumberParameters", c_uint32),
        ("ExceptionInformation", c_void_p * EXCEPTION_MAXIMUM_PARAMETERS),
    )


class EXCEPTION_POINTERS(Structure):
    """An exception and the registers of its thread.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-exception_pointers
    """

    _fields_ = (("ExceptionRecord", POINTER(EXCEPTION_RECORD)), ("ContextRecord", POINTER(CONTEXT)))


class MINIDUMP_EXCEPTION_INFORMATION(Packed):
    """The exception to be written; with ClientPointers its addresses are the target's.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_exception_information
    """

    _fields_ = (
        ("ThreadId", c_uint32),
        ("ExceptionPointers", POINTER(EXCEPTION_POINTERS)),
        ("ClientPointers", c_int32),
    )


class MINIDUMP_EXCEPTION_INFORMATION64(Packed):
    """The exception to be written, with 64-bit addresses whatever the host.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_exception_information
    """

    _fields_ = (
        ("ThreadId", c_uint32),
        ("ExceptionRecord", c_uint64),
        ("ContextRecord", c_uint64),
        ("ClientPointers", c_int32),
    )


class MINIDUMP_USER_STREAM(Packed):
    """A stream of the caller's own; Type is above LastReservedStream, BufferSize in bytes.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_user_stream
    """

    _fields_ = (("Type", c_uint32), ("BufferSize", c_uint32), ("Buffer", c_void_p))


class MINIDUMP_USER_STREAM_INFORMATION(Packed):
    """The caller's own streams.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_user_stream_information
    """

    _fields_ = (
        ("UserStreamCount", c_uint32),
        ("UserStreamArray", POINTER(MINIDUMP_USER_STREAM)),
    )


# CONTEXT of x64 is declared with __declspec(align(16)), which outranks #pragma pack(4), so it is
# at 16 and the structures around it are a multiple of 16 long. ctypes knows no such rule before
# Python 3.13, nor does gcc: hence members that stand for it.
class _NoPadding(Packed):
    _fields_ = ()


class _Padding4(Packed):
    _fields_ = (("Bytes", c_uint8 * 4),)


class _Padding12(Packed):
    _fields_ = (("Bytes", c_uint8 * 12),)


_BEFORE_CONTEXT = by_bits(_NoPadding, _Padding4)
_AT_END = by_bits(_NoPadding, _Padding12)


class MINIDUMP_THREAD_CALLBACK(Packed):
    """ThreadCallback: a thread that was read; its stack goes from StackEnd up to StackBase.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_callback
    """

    _fields_ = (
        ("ThreadId", c_uint32),
        ("ThreadHandle", c_void_p),
        ("_BeforeContext", _BEFORE_CONTEXT),
        ("Context", CONTEXT),
        ("SizeOfContext", c_uint32),
        ("StackBase", c_uint64),
        ("StackEnd", c_uint64),
        ("_AtEnd", _AT_END),
    )


class MINIDUMP_THREAD_EX_CALLBACK(Packed):
    """ThreadExCallback: a thread with its register backing store.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_ex_callback
    """

    _fields_ = (
        *MINIDUMP_THREAD_CALLBACK._fields_[:-1],
        ("BackingStoreBase", c_uint64),
        ("BackingStoreEnd", c_uint64),
        ("_AtEnd", _AT_END),
    )


class MINIDUMP_INCLUDE_THREAD_CALLBACK(Packed):
    """IncludeThreadCallback: a thread that is about to be read.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_include_thread_callback
    """

    _fields_ = (("ThreadId", c_uint32),)


class MINIDUMP_MODULE_CALLBACK(Packed):
    """ModuleCallback: a module that was read; FullPath is UTF-16 (`wide_string` reads it).

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_module_callback
    """

    _fields_ = (
        ("FullPath", c_void_p),
        ("BaseOfImage", c_uint64),
        ("SizeOfImage", c_uint32),
        ("CheckSum", c_uint32),
        ("TimeDateStamp", c_uint32),
        ("VersionInfo", VS_FIXEDFILEINFO),
        ("CvRecord", c_void_p),
        ("SizeOfCvRecord", c_uint32),
        ("MiscRecord", c_void_p),
        ("SizeOfMiscRecord", c_uint32),
    )


class MINIDUMP_INCLUDE_MODULE_CALLBACK(Packed):
    """IncludeModuleCallback: a module that is about to be read.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_include_module_callback
    """

    _fields_ = (("BaseOfImage", c_uint64),)


class MINIDUMP_IO_CALLBACK(Packed):
    """IoStart-, IoWriteAll- and IoFinishCallback: bytes to be written at a file offset.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_io_callback
    """

    _fields_ = (
        ("Handle", c_void_p),
        ("Offset", c_uint64),
        ("Buffer", c_void_p),
        ("BufferBytes", c_uint32),
    )


class MINIDUMP_READ_MEMORY_FAILURE_CALLBACK(Packed):
    """ReadMemoryFailureCallback: an address (Offset) that could not be read, and why.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_read_memory_failure_callback
    """

    _fields_ = (("Offset", c_uint64), ("Bytes", c_uint32), ("FailureStatus", c_int32))


class MINIDUMP_VM_QUERY_CALLBACK(Packed):
    """VmQueryCallback: an address (Offset) whose region is asked for.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_input
    """

    _fields_ = (("Offset", c_uint64),)


class MINIDUMP_VM_PRE_READ_CALLBACK(Packed):
    """VmPreReadCallback: memory that is about to be read into Buffer.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_input
    """

    _fields_ = (("Offset", c_uint64), ("Buffer", c_void_p), ("Size", c_uint32))


class MINIDUMP_VM_POST_READ_CALLBACK(Packed):
    """VmPostReadCallback: memory that was read into Buffer.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_input
    """

    _fields_ = (
        ("Offset", c_uint64),
        ("Buffer", c_void_p),
        ("Size", c_uint32),
        ("Completed", c_uint32),
        ("Status", c_int32),
    )


class MINIDUMP_COMPRESSED_MEMORY_STREAM_FINISH_CALLBACK(Packed):
    """CompressedMemoryStreamFinishCallback: what compression has reached.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_input
    """

    _fields_ = (("CompressedStreamSize", c_uint64), ("StreamCompressionRate", c_uint32))


class MINIDUMP_COMPRESSED_MEMORY_STREAM_START_CALLBACK(Packed):
    """CompressedMemoryStreamStartCallback: how compression is to use the machine.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_output
    """

    _fields_ = (
        ("MaxParallelism", c_uint32),
        ("MaxTransferSize", c_uint32),
        ("NumaNodeInfoArray", c_void_p),
        ("NumaNodeInfoArraySize", c_uint32),
        ("Reserved", c_uint32),
    )


class _InputUnion(PackedUnion):
    _fields_ = (
        ("Status", c_int32),
        ("Thread", MINIDUMP_THREAD_CALLBACK),
        ("ThreadEx", MINIDUMP_THREAD_EX_CALLBACK),
        ("Module", MINIDUMP_MODULE_CALLBACK),
        ("IncludeThread", MINIDUMP_INCLUDE_THREAD_CALLBACK),
        ("IncludeModule", MINIDUMP_INCLUDE_MODULE_CALLBACK),
        ("Io", MINIDUMP_IO_CALLBACK),
        ("ReadMemoryFailure", MINIDUMP_READ_MEMORY_FAILURE_CALLBACK),
        ("SecondaryFlags", c_uint32),
        ("VmQuery", MINIDUMP_VM_QUERY_CALLBACK),
        ("VmPreRead", MINIDUMP_VM_PRE_READ_CALLBACK),
        ("VmPostRead", MINIDUMP_VM_POST_READ_CALLBACK),
        ("CompressedMemoryStreamFinish", MINIDUMP_COMPRESSED_MEMORY_STREAM_FINISH_CALLBACK),
    )


class MINIDUMP_CALLBACK_INPUT(Packed):
    """What the callback is told; CallbackType says which other member counts.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_input
    """

    _anonymous_ = ("Input",)
    _fields_ = (
        ("ProcessId", c_uint32),
        ("ProcessHandle", c_void_p),
        ("CallbackType", c_uint32),
        ("Input", _InputUnion),
    )


class _OutputMemory(Packed):
    _fields_ = (("MemoryBase", c_uint64), ("MemorySize", c_uint32))


class _OutputCancel(Packed):
    _fields_ = (("CheckCancel", c_int32), ("Cancel", c_int32))


class _OutputRegion(Packed):
    _fields_ = (("VmRegion", MINIDUMP_MEMORY_INFO), ("Continue", c_int32))


class _OutputQuery(Packed):
    _fields_ = (("VmQueryStatus", c_int32), ("VmQueryResult", MINIDUMP_MEMORY_INFO))


class _OutputRead(Packed):
    _fields_ = (("VmReadStatus", c_int32), ("VmReadBytesCompleted", c_uint32))


class _OutputUnion(PackedUnion):
    _anonymous_ = ("Memory", "CancelAnswer", "Region", "Query", "Read")
    _fields_ = (
        ("ModuleWriteFlags", c_uint32),
        ("ThreadWriteFlags", c_uint32),
        ("SecondaryFlags", c_uint32),
        ("Memory", _OutputMemory),
        ("CancelAnswer", _OutputCancel),
        ("Handle", c_void_p),
        ("Region", _OutputRegion),
        ("Query", _OutputQuery),
        ("Read", _OutputRead),
        ("CompressedMemoryStreamStart", MINIDUMP_COMPRESSED_MEMORY_STREAM_START_CALLBACK),
        ("Status", c_int32),
    )


class MINIDUMP_CALLBACK_OUTPUT(Packed):
    """What the callback answers; the type of the call says which members count.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_output
    """

    _anonymous_ = ("Output",)
    _fields_ = (("Output", _OutputUnion),)


# WINAPI is stdcall on 32-bit Windows; elsewhere there is one convention, and no WINFUNCTYPE.
_WINAPI: Any = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)

MINIDUMP_CALLBACK_ROUTINE: Any = _WINAPI(
    c_int32, c_void_p, POINTER(MINIDUMP_CALLBACK_INPUT), POINTER(MINIDUMP_CALLBACK_OUTPUT)
)
"""BOOL (CallbackParam, CallbackInput, CallbackOutput).

https://learn.microsoft.com/windows/win32/api/minidumpapiset/nc-minidumpapiset-minidump_callback_routine
"""


class MINIDUMP_CALLBACK_INFORMATION(Packed):
    """The callback and what it is given as its first argument.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_callback_information
    """

    _fields_ = (("CallbackRoutine", MINIDUMP_CALLBACK_ROUTINE), ("CallbackParam", c_void_p))
