"""Structures of a minidump file: system, process and their counters."""

from __future__ import annotations

from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64

from .layout import Packed, PackedUnion


class _Processors(Packed):
    _fields_ = (("NumberOfProcessors", c_uint8), ("ProductType", c_uint8))


class _Reserved0(PackedUnion):
    _anonymous_ = ("Processors",)
    _fields_ = (("Reserved0", c_uint16), ("Processors", _Processors))


class _Suite(Packed):
    _fields_ = (("SuiteMask", c_uint16), ("Reserved2", c_uint16))


class _Reserved1(PackedUnion):
    _anonymous_ = ("Suite",)
    _fields_ = (("Reserved1", c_uint32), ("Suite", _Suite))


class _X86CpuInfo(Packed):
    _fields_ = (
        ("VendorId", c_uint32 * 3),
        ("VersionInformation", c_uint32),
        ("FeatureInformation", c_uint32),
        ("AMDExtendedCpuFeatures", c_uint32),
    )


class _OtherCpuInfo(Packed):
    _fields_ = (("ProcessorFeatures", c_uint64 * 2),)


class CPU_INFORMATION(PackedUnion):
    """X86CpuInfo for 32-bit x86 alone, OtherCpuInfo for every other processor.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_system_info
    """

    _fields_ = (("X86CpuInfo", _X86CpuInfo), ("OtherCpuInfo", _OtherCpuInfo))


class MINIDUMP_SYSTEM_INFO(Packed):
    """SystemInfoStream: processor and version of the system.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_system_info
    """

    _anonymous_ = ("Counts", "Suites")
    _fields_ = (
        ("ProcessorArchitecture", c_uint16),
        ("ProcessorLevel", c_uint16),
        ("ProcessorRevision", c_uint16),
        ("Counts", _Reserved0),
        ("MajorVersion", c_uint32),
        ("MinorVersion", c_uint32),
        ("BuildNumber", c_uint32),
        ("PlatformId", c_uint32),
        ("CSDVersionRva", c_uint32),
        ("Suites", _Reserved1),
        ("Cpu", CPU_INFORMATION),
    )


class SYSTEMTIME(Packed):
    """A date and time by its parts.

    https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-systemtime
    """

    _fields_ = (
        ("wYear", c_uint16),
        ("wMonth", c_uint16),
        ("wDayOfWeek", c_uint16),
        ("wDay", c_uint16),
        ("wHour", c_uint16),
        ("wMinute", c_uint16),
        ("wSecond", c_uint16),
        ("wMilliseconds", c_uint16),
    )


class TIME_ZONE_INFORMATION(Packed):
    """A time zone; biases are in minutes, names in UTF-16.

    https://learn.microsoft.com/windows/win32/api/timezoneapi/ns-timezoneapi-time_zone_information
    """

    _fields_ = (
        ("Bias", c_int32),
        ("StandardName", c_uint16 * 32),
        ("StandardDate", SYSTEMTIME),
        ("StandardBias", c_int32),
        ("DaylightName", c_uint16 * 32),
        ("DaylightDate", SYSTEMTIME),
        ("DaylightBias", c_int32),
    )


class XSTATE_FEATURE(Packed):
    """Where a feature's registers are in an extended CONTEXT.

    https://learn.microsoft.com/windows/win32/debug/working-with-xstate-context
    """

    _fields_ = (("Offset", c_uint32), ("Size", c_uint32))


class XSTATE_CONFIG_FEATURE_MSC_INFO(Packed):
    """The extended processor features (AVX and later) and their places.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("SizeOfInfo", c_uint32),
        ("ContextSize", c_uint32),
        ("EnabledFeatures", c_uint64),
        ("Features", XSTATE_FEATURE * 64),  # MAXIMUM_XSTATE_FEATURES, winnt.h
    )


class MINIDUMP_MISC_INFO(Packed):
    """MiscInfoStream: times are seconds, ProcessCreateTime since 1970.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_misc_info
    """

    _fields_ = (
        ("SizeOfInfo", c_uint32),
        ("Flags1", c_uint32),
        ("ProcessId", c_uint32),
        ("ProcessCreateTime", c_uint32),
        ("ProcessUserTime", c_uint32),
        ("ProcessKernelTime", c_uint32),
    )


class MINIDUMP_MISC_INFO_2(Packed):
    """MiscInfoStream with the processor's power state.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_misc_info_2
    """

    _fields_ = (
        *MINIDUMP_MISC_INFO._fields_,
        ("ProcessorMaxMhz", c_uint32),
        ("ProcessorCurrentMhz", c_uint32),
        ("ProcessorMhzLimit", c_uint32),
        ("ProcessorMaxIdleState", c_uint32),
        ("ProcessorCurrentIdleState", c_uint32),
    )


class MINIDUMP_MISC_INFO_3(Packed):
    """MiscInfoStream with integrity level and time zone.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        *MINIDUMP_MISC_INFO_2._fields_,
        ("ProcessIntegrityLevel", c_uint32),
        ("ProcessExecuteFlags", c_uint32),
        ("ProtectedProcess", c_uint32),
        ("TimeZoneId", c_uint32),
        ("TimeZone", TIME_ZONE_INFORMATION),
    )


class MINIDUMP_MISC_INFO_4(Packed):
    """MiscInfoStream with the builds of the system and of dbghelp, in UTF-16.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        *MINIDUMP_MISC_INFO_3._fields_,
        ("BuildString", c_uint16 * 260),  # MAX_PATH, minwindef.h
        ("DbgBldStr", c_uint16 * 40),
    )


class MINIDUMP_MISC_INFO_5(Packed):
    """MiscInfoStream with extended processor state and the process cookie.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        *MINIDUMP_MISC_INFO_4._fields_,
        ("XStateData", XSTATE_CONFIG_FEATURE_MSC_INFO),
        ("ProcessCookie", c_uint32),
    )


class MINIDUMP_PROCESS_VM_COUNTERS_1(Packed):
    """ProcessVmCountersStream of revision 1; bytes.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("Revision", c_uint16),
        ("PageFaultCount", c_uint32),
        ("PeakWorkingSetSize", c_uint64),
        ("WorkingSetSize", c_uint64),
        ("QuotaPeakPagedPoolUsage", c_uint64),
        ("QuotaPagedPoolUsage", c_uint64),
        ("QuotaPeakNonPagedPoolUsage", c_uint64),
        ("QuotaNonPagedPoolUsage", c_uint64),
        ("PagefileUsage", c_uint64),
        ("PeakPagefileUsage", c_uint64),
        ("PrivateUsage", c_uint64),
    )


class MINIDUMP_PROCESS_VM_COUNTERS_2(Packed):
    """ProcessVmCountersStream of revision 2; bytes, valid by Flags.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("Revision", c_uint16),
        ("Flags", c_uint16),
        *MINIDUMP_PROCESS_VM_COUNTERS_1._fields_[1:-1],
        ("PeakVirtualSize", c_uint64),
        ("VirtualSize", c_uint64),
        ("PrivateUsage", c_uint64),
        ("PrivateWorkingSetSize", c_uint64),
        ("SharedCommitUsage", c_uint64),
        ("JobSharedCommitUsage", c_uint64),
        ("JobPrivateCommitUsage", c_uint64),
        ("JobPeakPrivateCommitUsage", c_uint64),
        ("JobPrivateCommitLimit", c_uint64),
        ("JobTotalCommitLimit", c_uint64),
    )


class MINIDUMP_SYSTEM_BASIC_INFORMATION(Packed):
    """Size and processors of the machine.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("TimerResolution", c_uint32),
        ("PageSize", c_uint32),
        ("NumberOfPhysicalPages", c_uint32),
        ("LowestPhysicalPageNumber", c_uint32),
        ("HighestPhysicalPageNumber", c_uint32),
        ("AllocationGranularity", c_uint32),
        ("MinimumUserModeAddress", c_uint64),
        ("MaximumUserModeAddress", c_uint64),
        ("ActiveProcessorsAffinityMask", c_uint64),
        ("NumberOfProcessors", c_uint32),
    )


class MINIDUMP_SYSTEM_FILECACHE_INFORMATION(Packed):
    """The system's file cache; bytes where not said otherwise.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("CurrentSize", c_uint64),
        ("PeakSize", c_uint64),
        ("PageFaultCount", c_uint32),
        ("MinimumWorkingSet", c_uint64),
        ("MaximumWorkingSet", c_uint64),
        ("CurrentSizeIncludingTransitionInPages", c_uint64),
        ("PeakSizeIncludingTransitionInPages", c_uint64),
        ("TransitionRePurposeCount", c_uint32),
        ("Flags", c_uint32),
    )


class MINIDUMP_SYSTEM_BASIC_PERFORMANCE_INFORMATION(Packed):
    """The system's commit charge, in pages.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("AvailablePages", c_uint64),
        ("CommittedPages", c_uint64),
        ("CommitLimit", c_uint64),
        ("PeakCommitment", c_uint64),
    )


_PERFORMANCE_COUNTERS = """
    IoReadOperationCount IoWriteOperationCount IoOtherOperationCount AvailablePages CommittedPages
    CommitLimit PeakCommitment PageFaultCount CopyOnWriteCount TransitionCount CacheTransitionCount
    DemandZeroCount PageReadCount PageReadIoCount CacheReadCount CacheIoCount DirtyPagesWriteCount
    DirtyWriteIoCount MappedPagesWriteCount MappedWriteIoCount PagedPoolPages NonPagedPoolPages
    PagedPoolAllocs PagedPoolFrees NonPagedPoolAllocs NonPagedPoolFrees FreeSystemPtes
    ResidentSystemCodePage TotalSystemDriverPages TotalSystemCodePages NonPagedPoolLookasideHits
    PagedPoolLookasideHits AvailablePagedPoolPages ResidentSystemCachePage ResidentPagedPoolPage
    ResidentSystemDriverPage CcFastReadNoWait CcFastReadWait CcFastReadResourceMiss
    CcFastReadNotPossible CcFastMdlReadNoWait CcFastMdlReadWait CcFastMdlReadResourceMiss
    CcFastMdlReadNotPossible CcMapDataNoWait CcMapDataWait CcMapDataNoWaitMiss CcMapDataWaitMiss
    CcPinMappedDataCount CcPinReadNoWait CcPinReadWait CcPinReadNoWaitMiss CcPinReadWaitMiss
    CcCopyReadNoWait CcCopyReadWait CcCopyReadNoWaitMiss CcCopyReadWaitMiss CcMdlReadNoWait
    CcMdlReadWait CcMdlReadNoWaitMiss CcMdlReadWaitMiss CcReadAheadIos CcLazyWriteIos
    CcLazyWritePages CcDataFlushes CcDataPages ContextSwitches FirstLevelTbFills
    SecondLevelTbFills SystemCalls
"""


class MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION(Packed):
    """The system's performance counters.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("IdleProcessTime", c_uint64),
        ("IoReadTransferCount", c_uint64),
        ("IoWriteTransferCount", c_uint64),
        ("IoOtherTransferCount", c_uint64),
        *((name, c_uint32) for name in _PERFORMANCE_COUNTERS.split()),
        ("CcTotalDirtyPages", c_uint64),
        ("CcDirtyPageThreshold", c_uint64),
        ("ResidentAvailablePages", c_int64),
        ("SharedCommittedPages", c_uint64),
    )


class MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION_2(Packed):
    """The system's performance counters with those of newer systems.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        *MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION._fields_,
        ("MdlPagesAllocated", c_uint64),
        ("PfnDatabaseCommittedPages", c_uint64),
        ("SystemPageTableCommittedPages", c_uint64),
        ("ContiguousPagesAllocated", c_uint64),
    )


class MINIDUMP_SYSTEM_MEMORY_INFO_1(Packed):
    """SystemMemoryInfoStream of revision 1.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("Revision", c_uint16),
        ("Flags", c_uint16),
        ("BasicInfo", MINIDUMP_SYSTEM_BASIC_INFORMATION),
        ("FileCacheInfo", MINIDUMP_SYSTEM_FILECACHE_INFORMATION),
        ("BasicPerfInfo", MINIDUMP_SYSTEM_BASIC_PERFORMANCE_INFORMATION),
        ("PerfInfo", MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION),
    )


class MINIDUMP_SYSTEM_MEMORY_INFO_2(Packed):
    """SystemMemoryInfoStream of revision 2.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        *MINIDUMP_SYSTEM_MEMORY_INFO_1._fields_[:-1],
        ("PerfInfo", MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION_2),
    )
