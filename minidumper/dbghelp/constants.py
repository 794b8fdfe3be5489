"""Flags and numbers of minidumpapiset.h, under Microsoft's names.

The newest ones (MiniDumpWithMemoryCompressed, the callbacks and streams of compressed memory) are
in the header as https://github.com/microsoft/windows-rs translates it, but on no page yet.
"""

from __future__ import annotations

import enum

MINIDUMP_SIGNATURE = 0x504D444D
"""The first four bytes of a minidump, "MDMP"."""
MINIDUMP_VERSION = 42899
"""Lower 16 bits of MINIDUMP_HEADER.Version; the upper 16 are the writer's own."""
EXCEPTION_MAXIMUM_PARAMETERS = 15
S_OK = 0
S_FALSE = 1


class MINIDUMP_TYPE(enum.IntFlag):
    """What MiniDumpWriteDump puts into the file.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-minidump_type
    """

    MiniDumpNormal = 0x0000_0000
    MiniDumpWithDataSegs = 0x0000_0001
    MiniDumpWithFullMemory = 0x0000_0002
    MiniDumpWithHandleData = 0x0000_0004
    MiniDumpFilterMemory = 0x0000_0008
    MiniDumpScanMemory = 0x0000_0010
    MiniDumpWithUnloadedModules = 0x0000_0020
    MiniDumpWithIndirectlyReferencedMemory = 0x0000_0040
    MiniDumpFilterModulePaths = 0x0000_0080
    MiniDumpWithProcessThreadData = 0x0000_0100
    MiniDumpWithPrivateReadWriteMemory = 0x0000_0200
    MiniDumpWithoutOptionalData = 0x0000_0400
    MiniDumpWithFullMemoryInfo = 0x0000_0800
    MiniDumpWithThreadInfo = 0x0000_1000
    MiniDumpWithCodeSegs = 0x0000_2000
    MiniDumpWithoutAuxiliaryState = 0x0000_4000
    MiniDumpWithFullAuxiliaryState = 0x0000_8000
    MiniDumpWithPrivateWriteCopyMemory = 0x0001_0000
    MiniDumpIgnoreInaccessibleMemory = 0x0002_0000
    MiniDumpWithTokenInformation = 0x0004_0000
    MiniDumpWithModuleHeaders = 0x0008_0000
    MiniDumpFilterTriage = 0x0010_0000
    MiniDumpWithAvxXStateContext = 0x0020_0000
    MiniDumpWithIptTrace = 0x0040_0000
    MiniDumpScanInaccessiblePartialPages = 0x0080_0000
    MiniDumpFilterWriteCombinedMemory = 0x0100_0000
    MiniDumpNoIgnoreInaccessibleMemory = 0x0200_0000
    MiniDumpWithMemoryCompressed = 0x0400_0000
    MiniDumpValidTypeFlags = 0x05FF_FFFF
    MiniDumpValidTypeFlagsEx = 0x07FF_FFFF


class MINIDUMP_SECONDARY_FLAGS(enum.IntFlag):
    """Rarely used options, asked for by SecondaryFlagsCallback.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-minidump_secondary_flags
    """

    MiniSecondaryWithoutPowerInfo = 0x0000_0001
    MiniSecondaryValidFlags = 0x0000_0001


class MODULE_WRITE_FLAGS(enum.IntFlag):
    """What is written about one module.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-module_write_flags
    """

    ModuleWriteModule = 0x0001
    ModuleWriteDataSeg = 0x0002
    ModuleWriteMiscRecord = 0x0004
    ModuleWriteCvRecord = 0x0008
    ModuleReferencedByMemory = 0x0010
    ModuleWriteTlsData = 0x0020
    ModuleWriteCodeSegs = 0x0040


class THREAD_WRITE_FLAGS(enum.IntFlag):
    """What is written about one thread.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-thread_write_flags
    """

    ThreadWriteThread = 0x0001
    ThreadWriteStack = 0x0002
    ThreadWriteContext = 0x0004
    ThreadWriteBackingStore = 0x0008
    ThreadWriteInstructionWindow = 0x0010
    ThreadWriteThreadData = 0x0020
    ThreadWriteThreadInfo = 0x0040


class MINIDUMP_CALLBACK_TYPE(enum.IntEnum):
    """Why the callback is called, which decides the members of input and output that count.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-minidump_callback_type
    """

    ModuleCallback = 0
    ThreadCallback = 1
    ThreadExCallback = 2
    IncludeThreadCallback = 3
    IncludeModuleCallback = 4
    MemoryCallback = 5
    CancelCallback = 6
    WriteKernelMinidumpCallback = 7
    KernelMinidumpStatusCallback = 8
    RemoveMemoryCallback = 9
    IncludeVmRegionCallback = 10
    IoStartCallback = 11
    IoWriteAllCallback = 12
    IoFinishCallback = 13
    ReadMemoryFailureCallback = 14
    SecondaryFlagsCallback = 15
    IsProcessSnapshotCallback = 16
    VmStartCallback = 17
    VmQueryCallback = 18
    VmPreReadCallback = 19
    VmPostReadCallback = 20
    CompressedMemoryStreamStartCallback = 21
    CompressedMemoryStreamFinishCallback = 22


class MINIDUMP_STREAM_TYPE(enum.IntEnum):
    """What a stream holds; numbers above LastReservedStream are for programs' own streams.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-minidump_stream_type
    """

    UnusedStream = 0
    ReservedStream0 = 1
    ReservedStream1 = 2
    ThreadListStream = 3
    ModuleListStream = 4
    MemoryListStream = 5
    ExceptionStream = 6
    SystemInfoStream = 7
    ThreadExListStream = 8
    Memory64ListStream = 9
    CommentStreamA = 10
    CommentStreamW = 11
    HandleDataStream = 12
    FunctionTableStream = 13
    UnloadedModuleListStream = 14
    MiscInfoStream = 15
    MemoryInfoListStream = 16
    ThreadInfoListStream = 17
    HandleOperationListStream = 18
    TokenStream = 19
    JavaScriptDataStream = 20
    SystemMemoryInfoStream = 21
    ProcessVmCountersStream = 22
    IptTraceStream = 23
    ThreadNamesStream = 24
    CompressedMemoryStream = 25
    CompressedMemoryStreamSQL = 0x7000
    ceStreamNull = 0x8000
    ceStreamSystemInfo = 0x8001
    ceStreamException = 0x8002
    ceStreamModuleList = 0x8003
    ceStreamProcessList = 0x8004
    ceStreamThreadList = 0x8005
    ceStreamThreadContextList = 0x8006
    ceStreamThreadCallStackList = 0x8007
    ceStreamMemoryVirtualList = 0x8008
    ceStreamMemoryPhysicalList = 0x8009
    ceStreamBucketParameters = 0x800A
    ceStreamProcessModuleMap = 0x800B
    ceStreamDiagnosisList = 0x800C
    LastReservedStream = 0xFFFF


class MINIDUMP_HANDLE_OBJECT_INFORMATION_TYPE(enum.IntEnum):
    """The format of what follows a MINIDUMP_HANDLE_OBJECT_INFORMATION.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-minidump_handle_object_information_type
    """

    MiniHandleObjectInformationNone = 0
    MiniThreadInformation1 = 1
    MiniMutantInformation1 = 2
    MiniMutantInformation2 = 3
    MiniProcessInformation1 = 4
    MiniProcessInformation2 = 5
    MiniEventInformation1 = 6
    MiniSectionInformation1 = 7
    MiniSemaphoreInformation1 = 8
    MiniHandleObjectInformationTypeMax = 9


class MINIDUMP_MISC_FLAGS(enum.IntFlag):
    """MINIDUMP_MISC_INFO.Flags1: which members are valid (macros without a type in the header).

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_misc_info
    """

    MINIDUMP_MISC1_PROCESS_ID = 0x0001
    MINIDUMP_MISC1_PROCESS_TIMES = 0x0002
    MINIDUMP_MISC1_PROCESSOR_POWER_INFO = 0x0004
    MINIDUMP_MISC3_PROCESS_INTEGRITY = 0x0010
    MINIDUMP_MISC3_PROCESS_EXECUTE_FLAGS = 0x0020
    MINIDUMP_MISC3_TIMEZONE = 0x0040
    MINIDUMP_MISC3_PROTECTED_PROCESS = 0x0080
    MINIDUMP_MISC4_BUILDSTRING = 0x0100
    MINIDUMP_MISC5_PROCESS_COOKIE = 0x0200


class MINIDUMP_THREAD_INFO_FLAGS(enum.IntFlag):
    """MINIDUMP_THREAD_INFO.DumpFlags (macros without a type in the header).

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_thread_info
    """

    MINIDUMP_THREAD_INFO_ERROR_THREAD = 0x0001
    MINIDUMP_THREAD_INFO_WRITING_THREAD = 0x0002
    MINIDUMP_THREAD_INFO_EXITED_THREAD = 0x0004
    MINIDUMP_THREAD_INFO_INVALID_INFO = 0x0008
    MINIDUMP_THREAD_INFO_INVALID_CONTEXT = 0x0010
    MINIDUMP_THREAD_INFO_INVALID_TEB = 0x0020


class MINIDUMP_SYSMEMINFO_FLAGS(enum.IntFlag):
    """MINIDUMP_SYSTEM_MEMORY_INFO_1.Flags (macros without a type or a page of their own).

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    MINIDUMP_SYSMEMINFO1_FILECACHE_TRANSITIONREPURPOSECOUNT_FLAGS = 0x0001
    MINIDUMP_SYSMEMINFO1_BASICPERF = 0x0002
    MINIDUMP_SYSMEMINFO1_PERF_CCTOTALDIRTYPAGES_CCDIRTYPAGETHRESHOLD = 0x0004
    MINIDUMP_SYSMEMINFO1_PERF_RESIDENTAVAILABLEPAGES_SHAREDCOMMITPAGES = 0x0008
    MINIDUMP_SYSMEMINFO1_PERF_MDLPAGESALLOCATED_PFNDATABASECOMMITTEDPAGES = 0x0010
    MINIDUMP_SYSMEMINFO1_PERF_SYSTEMPAGETABLECOMMITTEDPAGES_CONTIGUOUSPAGESALLOCATED = 0x0020


class MINIDUMP_PROCESS_VM_COUNTERS_FLAGS(enum.IntFlag):
    """MINIDUMP_PROCESS_VM_COUNTERS_2.Flags (macros without a type or a page of their own).

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    MINIDUMP_PROCESS_VM_COUNTERS = 0x0001
    MINIDUMP_PROCESS_VM_COUNTERS_VIRTUALSIZE = 0x0002
    MINIDUMP_PROCESS_VM_COUNTERS_EX = 0x0004
    MINIDUMP_PROCESS_VM_COUNTERS_EX2 = 0x0008
    MINIDUMP_PROCESS_VM_COUNTERS_JOB = 0x0010
