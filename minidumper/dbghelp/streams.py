"""The structures of a minidump file: header, directory, and the records of its streams.

Lists are given by their heads; the records follow, as the member of length 0 says where one is
declared, else at SizeOfHeader. What has no page of its own is linked to that of the header.
"""

from __future__ import annotations

from ctypes import c_uint16, c_uint32, c_uint64

from .constants import EXCEPTION_MAXIMUM_PARAMETERS
from .layout import Packed, PackedUnion


class MINIDUMP_LOCATION_DESCRIPTOR(Packed):
    """Where something is in the file: bytes and offset.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_location_descriptor
    """

    _fields_ = (("DataSize", c_uint32), ("Rva", c_uint32))


class MINIDUMP_LOCATION_DESCRIPTOR64(Packed):
    """Where something is in the file, beyond 4 GB too.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_location_descriptor64
    """

    _fields_ = (("DataSize", c_uint64), ("Rva", c_uint64))


class MINIDUMP_MEMORY_DESCRIPTOR(Packed):
    """A range of memory and where its bytes are.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_memory_descriptor
    """

    _fields_ = (("StartOfMemoryRange", c_uint64), ("Memory", MINIDUMP_LOCATION_DESCRIPTOR))


class MINIDUMP_MEMORY_DESCRIPTOR64(Packed):
    """A range of memory in a Memory64ListStream; its bytes follow those of the range before.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_memory_descriptor64
    """

    _fields_ = (("StartOfMemoryRange", c_uint64), ("DataSize", c_uint64))


class _TimeDateStamp(PackedUnion):
    _fields_ = (("Reserved", c_uint32), ("TimeDateStamp", c_uint32))


class MINIDUMP_HEADER(Packed):
    """The start of the file; TimeDateStamp is in seconds since 1970, Flags a MINIDUMP_TYPE.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_header
    """

    _anonymous_ = ("Time",)
    _fields_ = (
        ("Signature", c_uint32),
        ("Version", c_uint32),
        ("NumberOfStreams", c_uint32),
        ("StreamDirectoryRva", c_uint32),
        ("CheckSum", c_uint32),
        ("Time", _TimeDateStamp),
        ("Flags", c_uint64),
    )


class MINIDUMP_DIRECTORY(Packed):
    """One stream: a MINIDUMP_STREAM_TYPE and where it is.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_directory
    """

    _fields_ = (("StreamType", c_uint32), ("Location", MINIDUMP_LOCATION_DESCRIPTOR))


class MINIDUMP_STRING(Packed):
    """UTF-16 text; Length is in bytes, without the terminating zero that follows.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_string
    """

    _fields_ = (("Length", c_uint32), ("Buffer", c_uint16 * 0))


class MINIDUMP_THREAD(Packed):
    """A thread: its stack and its CONTEXT, whose size depends on the processor.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread
    """

    _fields_ = (
        ("ThreadId", c_uint32),
        ("SuspendCount", c_uint32),
        ("PriorityClass", c_uint32),
        ("Priority", c_uint32),
        ("Teb", c_uint64),
        ("Stack", MINIDUMP_MEMORY_DESCRIPTOR),
        ("ThreadContext", MINIDUMP_LOCATION_DESCRIPTOR),
    )


class MINIDUMP_THREAD_LIST(Packed):
    """ThreadListStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_list
    """

    _fields_ = (("NumberOfThreads", c_uint32), ("Threads", MINIDUMP_THREAD * 0))


class MINIDUMP_THREAD_EX(Packed):
    """A thread with the register backing store that Itanium has.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_ex
    """

    _fields_ = (
        *MINIDUMP_THREAD._fields_,
        ("BackingStore", MINIDUMP_MEMORY_DESCRIPTOR),
    )


class MINIDUMP_THREAD_EX_LIST(Packed):
    """ThreadExListStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_ex_list
    """

    _fields_ = (("NumberOfThreads", c_uint32), ("Threads", MINIDUMP_THREAD_EX * 0))


class MINIDUMP_THREAD_INFO(Packed):
    """Times, state and start of a thread; CreateTime and ExitTime are FILETIMEs, others 100 ns.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_info
    """

    _fields_ = (
        ("ThreadId", c_uint32),
        ("DumpFlags", c_uint32),
        ("DumpError", c_uint32),
        ("ExitStatus", c_uint32),
        ("CreateTime", c_uint64),
        ("ExitTime", c_uint64),
        ("KernelTime", c_uint64),
        ("UserTime", c_uint64),
        ("StartAddress", c_uint64),
        ("Affinity", c_uint64),
    )


class MINIDUMP_THREAD_INFO_LIST(Packed):
    """ThreadInfoListStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_info_list
    """

    _fields_ = (
        ("SizeOfHeader", c_uint32),
        ("SizeOfEntry", c_uint32),
        ("NumberOfEntries", c_uint32),
    )


class MINIDUMP_THREAD_NAME(Packed):
    """The name of a thread: a MINIDUMP_STRING by a 64-bit offset.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (("ThreadId", c_uint32), ("RvaOfThreadName", c_uint64))


class MINIDUMP_THREAD_NAME_LIST(Packed):
    """ThreadNamesStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (("NumberOfThreadNames", c_uint32), ("ThreadNames", MINIDUMP_THREAD_NAME * 0))


class VS_FIXEDFILEINFO(Packed):
    """The version of a file, as its version resource has it.

    https://learn.microsoft.com/windows/win32/api/verrsrc/ns-verrsrc-vs_fixedfileinfo
    """

    _fields_ = (
        ("dwSignature", c_uint32),
        ("dwStrucVersion", c_uint32),
        ("dwFileVersionMS", c_uint32),
        ("dwFileVersionLS", c_uint32),
        ("dwProductVersionMS", c_uint32),
        ("dwProductVersionLS", c_uint32),
        ("dwFileFlagsMask", c_uint32),
        ("dwFileFlags", c_uint32),
        ("dwFileOS", c_uint32),
        ("dwFileType", c_uint32),
        ("dwFileSubtype", c_uint32),
        ("dwFileDateMS", c_uint32),
        ("dwFileDateLS", c_uint32),
    )


class MINIDUMP_MODULE(Packed):
    """A loaded module; CvRecord is its CodeView record, which names its symbols.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_module
    """

    _fields_ = (
        ("BaseOfImage", c_uint64),
        ("SizeOfImage", c_uint32),
        ("CheckSum", c_uint32),
        ("TimeDateStamp", c_uint32),
        ("ModuleNameRva", c_uint32),
        ("VersionInfo", VS_FIXEDFILEINFO),
        ("CvRecord", MINIDUMP_LOCATION_DESCRIPTOR),
        ("MiscRecord", MINIDUMP_LOCATION_DESCRIPTOR),
        ("Reserved0", c_uint64),
        ("Reserved1", c_uint64),
    )


class MINIDUMP_MODULE_LIST(Packed):
    """ModuleListStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_module_list
    """

    _fields_ = (("NumberOfModules", c_uint32), ("Modules", MINIDUMP_MODULE * 0))


class MINIDUMP_UNLOADED_MODULE(Packed):
    """A module that was unloaded before the dump.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_unloaded_module
    """

    _fields_ = (
        ("BaseOfImage", c_uint64),
        ("SizeOfImage", c_uint32),
        ("CheckSum", c_uint32),
        ("TimeDateStamp", c_uint32),
        ("ModuleNameRva", c_uint32),
    )


class MINIDUMP_UNLOADED_MODULE_LIST(Packed):
    """UnloadedModuleListStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_unloaded_module_list
    """

    _fields_ = (
        ("SizeOfHeader", c_uint32),
        ("SizeOfEntry", c_uint32),
        ("NumberOfEntries", c_uint32),
    )


class MINIDUMP_MEMORY_LIST(Packed):
    """MemoryListStream: ranges whose bytes lie below 4 GB in the file.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_memory_list
    """

    _fields_ = (
        ("NumberOfMemoryRanges", c_uint32),
        ("MemoryRanges", MINIDUMP_MEMORY_DESCRIPTOR * 0),
    )


class MINIDUMP_MEMORY64_LIST(Packed):
    """Memory64ListStream: ranges whose bytes lie one after the other from BaseRva.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_memory64_list
    """

    _fields_ = (
        ("NumberOfMemoryRanges", c_uint64),
        ("BaseRva", c_uint64),
        ("MemoryRanges", MINIDUMP_MEMORY_DESCRIPTOR64 * 0),
    )


class MINIDUMP_MEMORY_INFO(Packed):
    """A region of the address space as VirtualQueryEx reports it.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_memory_info
    """

    _fields_ = (
        ("BaseAddress", c_uint64),
        ("AllocationBase", c_uint64),
        ("AllocationProtect", c_uint32),
        ("__alignment1", c_uint32),
        ("RegionSize", c_uint64),
        ("State", c_uint32),
        ("Protect", c_uint32),
        ("Type", c_uint32),
        ("__alignment2", c_uint32),
    )


class MINIDUMP_MEMORY_INFO_LIST(Packed):
    """MemoryInfoListStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_memory_info_list
    """

    _fields_ = (
        ("SizeOfHeader", c_uint32),
        ("SizeOfEntry", c_uint32),
        ("NumberOfEntries", c_uint64),
    )


class MINIDUMP_EXCEPTION(Packed):
    """An exception record with 64-bit addresses.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_exception
    """

    _fields_ = (
        ("ExceptionCode", c_uint32),
        ("ExceptionFlags", c_uint32),
        ("ExceptionRecord", c_uint64),
        ("ExceptionAddress", c_uint64),
        ("NumberParameters", c_uint32),
        ("__unusedAlignment", c_uint32),
        ("ExceptionInformation", c_uint64 * EXCEPTION_MAXIMUM_PARAMETERS),
    )


class MINIDUMP_EXCEPTION_STREAM(Packed):
    """ExceptionStream: the exception that the dump was taken for.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_exception_stream
    """

    _fields_ = (
        ("ThreadId", c_uint32),
        ("__alignment", c_uint32),
        ("ExceptionRecord", MINIDUMP_EXCEPTION),
        ("ThreadContext", MINIDUMP_LOCATION_DESCRIPTOR),
    )


class MINIDUMP_USER_RECORD(Packed):
    """A program's own record; named in the header and used by no stream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (("Type", c_uint32), ("Memory", MINIDUMP_LOCATION_DESCRIPTOR))
