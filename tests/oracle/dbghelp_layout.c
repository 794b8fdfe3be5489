/* Sizes, offsets and values of minidumpapiset.h as a C compiler for Windows sees them.
 *
 * Compiled to assembler and never run: every probe of probes.inc, which the test makes from what
 * minidumper.dbghelp exports, becomes a line "->name offset size". The definitions are those of
 * mingw-w64 (psdk_inc/_dbg_common.h); what it lacks or has otherwise than Microsoft follows below,
 * typed from https://learn.microsoft.com/windows/win32/api/minidumpapiset/ and the SDK's header.
 */
#define _WIN32_WINNT 0x0A00
#include <stddef.h>
#include <windows.h>
#include <dbghelp.h>

#pragma pack(push, 4)

typedef struct { ULONG64 Handle; RVA TypeNameRva, ObjectNameRva;
    ULONG32 Attributes, GrantedAccess, HandleCount, PointerCount;
    RVA ObjectInfoRva; ULONG32 Reserved0; } MINIDUMP_HANDLE_DESCRIPTOR_2;

typedef struct { ULONG32 SizeOfInfo, ContextSize; ULONG64 EnabledFeatures;
    XSTATE_FEATURE Features[MAXIMUM_XSTATE_FEATURES]; } XSTATE_CONFIG_FEATURE_MSC_INFO;

#define MISC_INFO_2 \
    ULONG32 SizeOfInfo, Flags1, ProcessId, ProcessCreateTime, ProcessUserTime, ProcessKernelTime; \
    ULONG32 ProcessorMaxMhz, ProcessorCurrentMhz, ProcessorMhzLimit; \
    ULONG32 ProcessorMaxIdleState, ProcessorCurrentIdleState;
#define MISC_INFO_3 MISC_INFO_2 \
    ULONG32 ProcessIntegrityLevel, ProcessExecuteFlags, ProtectedProcess, TimeZoneId; \
    TIME_ZONE_INFORMATION TimeZone;
#define MISC_INFO_4 MISC_INFO_3 WCHAR BuildString[MAX_PATH]; WCHAR DbgBldStr[40];
typedef struct { MISC_INFO_3 } MINIDUMP_MISC_INFO_3;
typedef struct { MISC_INFO_4 } MINIDUMP_MISC_INFO_4;
typedef struct { MISC_INFO_4 XSTATE_CONFIG_FEATURE_MSC_INFO XStateData; ULONG32 ProcessCookie;
    } MINIDUMP_MISC_INFO_5;

typedef struct { ULONG ThreadId; RVA64 RvaOfThreadName; } MINIDUMP_THREAD_NAME;
typedef struct { ULONG NumberOfThreadNames; MINIDUMP_THREAD_NAME ThreadNames[0];
    } MINIDUMP_THREAD_NAME_LIST;

typedef struct { ULONG TokenSize, TokenId; ULONG64 TokenHandle; } MINIDUMP_TOKEN_INFO_HEADER;
typedef struct { ULONG TokenListSize, TokenListEntries, ListHeaderSize, ElementHeaderSize;
    } MINIDUMP_TOKEN_INFO_LIST;

typedef struct { ULONG TimerResolution, PageSize, NumberOfPhysicalPages, LowestPhysicalPageNumber,
    HighestPhysicalPageNumber, AllocationGranularity;
    ULONG64 MinimumUserModeAddress, MaximumUserModeAddress, ActiveProcessorsAffinityMask;
    ULONG NumberOfProcessors; } MINIDUMP_SYSTEM_BASIC_INFORMATION;
typedef struct { ULONG64 CurrentSize, PeakSize; ULONG PageFaultCount;
    ULONG64 MinimumWorkingSet, MaximumWorkingSet, CurrentSizeIncludingTransitionInPages,
    PeakSizeIncludingTransitionInPages; ULONG TransitionRePurposeCount, Flags;
    } MINIDUMP_SYSTEM_FILECACHE_INFORMATION;
typedef struct { ULONG64 AvailablePages, CommittedPages, CommitLimit, PeakCommitment;
    } MINIDUMP_SYSTEM_BASIC_PERFORMANCE_INFORMATION;
#define PERFORMANCE \
    ULONG64 IdleProcessTime, IoReadTransferCount, IoWriteTransferCount, IoOtherTransferCount; \
    ULONG IoReadOperationCount, IoWriteOperationCount, IoOtherOperationCount, AvailablePages, \
    CommittedPages, CommitLimit, PeakCommitment, PageFaultCount, CopyOnWriteCount, \
    TransitionCount, CacheTransitionCount, DemandZeroCount, PageReadCount, PageReadIoCount, \
    CacheReadCount, CacheIoCount, DirtyPagesWriteCount, DirtyWriteIoCount, \
    MappedPagesWriteCount, MappedWriteIoCount, PagedPoolPages, NonPagedPoolPages, \
    PagedPoolAllocs, PagedPoolFrees, NonPagedPoolAllocs, NonPagedPoolFrees, FreeSystemPtes, \
    ResidentSystemCodePage, TotalSystemDriverPages, TotalSystemCodePages, \
    NonPagedPoolLookasideHits, PagedPoolLookasideHits, AvailablePagedPoolPages, \
    ResidentSystemCachePage, ResidentPagedPoolPage, ResidentSystemDriverPage, \
    CcFastReadNoWait, CcFastReadWait, CcFastReadResourceMiss, CcFastReadNotPossible, \
    CcFastMdlReadNoWait, CcFastMdlReadWait, CcFastMdlReadResourceMiss, \
    CcFastMdlReadNotPossible, CcMapDataNoWait, CcMapDataWait, CcMapDataNoWaitMiss, \
    CcMapDataWaitMiss, CcPinMappedDataCount, CcPinReadNoWait, CcPinReadWait, \
    CcPinReadNoWaitMiss, CcPinReadWaitMiss, CcCopyReadNoWait, CcCopyReadWait, \
    CcCopyReadNoWaitMiss, CcCopyReadWaitMiss, CcMdlReadNoWait, CcMdlReadWait, \
    CcMdlReadNoWaitMiss, CcMdlReadWaitMiss, CcReadAheadIos, CcLazyWriteIos, CcLazyWritePages, \
    CcDataFlushes, CcDataPages, ContextSwitches, FirstLevelTbFills, SecondLevelTbFills, \
    SystemCalls; \
    ULONG64 CcTotalDirtyPages, CcDirtyPageThreshold; \
    LONG64 ResidentAvailablePages; ULONG64 SharedCommittedPages;
typedef struct { PERFORMANCE } MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION;
typedef struct { PERFORMANCE ULONGLONG MdlPagesAllocated, PfnDatabaseCommittedPages,
    SystemPageTableCommittedPages, ContiguousPagesAllocated;
    } MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION_2;
#define MEMORY_INFO USHORT Revision, Flags; \
    MINIDUMP_SYSTEM_BASIC_INFORMATION BasicInfo; \
    MINIDUMP_SYSTEM_FILECACHE_INFORMATION FileCacheInfo; \
    MINIDUMP_SYSTEM_BASIC_PERFORMANCE_INFORMATION BasicPerfInfo;
typedef struct { MEMORY_INFO MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION PerfInfo;
    } MINIDUMP_SYSTEM_MEMORY_INFO_1;
typedef struct { MEMORY_INFO MINIDUMP_SYSTEM_PERFORMANCE_INFORMATION_2 PerfInfo;
    } MINIDUMP_SYSTEM_MEMORY_INFO_2;

#define VM_COUNTERS ULONG PageFaultCount; ULONG64 PeakWorkingSetSize, WorkingSetSize, \
    QuotaPeakPagedPoolUsage, QuotaPagedPoolUsage, QuotaPeakNonPagedPoolUsage, \
    QuotaNonPagedPoolUsage, PagefileUsage, PeakPagefileUsage;
typedef struct { USHORT Revision; VM_COUNTERS ULONG64 PrivateUsage;
    } MINIDUMP_PROCESS_VM_COUNTERS_1;
typedef struct { USHORT Revision, Flags; VM_COUNTERS ULONG64 PeakVirtualSize, VirtualSize,
    PrivateUsage, PrivateWorkingSetSize, SharedCommitUsage, JobSharedCommitUsage,
    JobPrivateCommitUsage, JobPeakPrivateCommitUsage, JobPrivateCommitLimit, JobTotalCommitLimit;
    } MINIDUMP_PROCESS_VM_COUNTERS_2;

/* Microsoft declares CONTEXT of x64 with __declspec(align(16)), which outranks #pragma pack. gcc
 * lets pack(4) win, so mingw's own definition has Context at 12: the padding is typed out. */
#ifdef _WIN64
#define BEFORE_CONTEXT ULONG _BeforeContext;
#define AT_END ULONG _AtEnd[3];
#else
#define BEFORE_CONTEXT char _BeforeContext[0];
#define AT_END char _AtEnd[0];
#endif
#define THREAD_CALLBACK ULONG ThreadId; HANDLE ThreadHandle; BEFORE_CONTEXT CONTEXT Context; \
    ULONG SizeOfContext; ULONG64 StackBase, StackEnd;
typedef struct { THREAD_CALLBACK AT_END } ms_thread_callback;
typedef struct { THREAD_CALLBACK ULONG64 BackingStoreBase, BackingStoreEnd; AT_END
    } ms_thread_ex_callback;
#define MINIDUMP_THREAD_CALLBACK ms_thread_callback
#define MINIDUMP_THREAD_EX_CALLBACK ms_thread_ex_callback

typedef struct { HANDLE Handle; ULONG64 Offset; PVOID Buffer; ULONG BufferBytes;
    } MINIDUMP_IO_CALLBACK;
typedef struct { ULONG64 Offset; ULONG Bytes; HRESULT FailureStatus;
    } MINIDUMP_READ_MEMORY_FAILURE_CALLBACK;
typedef struct { ULONG64 Offset; } MINIDUMP_VM_QUERY_CALLBACK;
typedef struct { ULONG64 Offset; PVOID Buffer; ULONG Size; } MINIDUMP_VM_PRE_READ_CALLBACK;
typedef struct { ULONG64 Offset; PVOID Buffer; ULONG Size, Completed; HRESULT Status;
    } MINIDUMP_VM_POST_READ_CALLBACK;
typedef struct { ULONG64 CompressedStreamSize; ULONG StreamCompressionRate;
    } MINIDUMP_COMPRESSED_MEMORY_STREAM_FINISH_CALLBACK;
typedef struct { ULONG MaxParallelism, MaxTransferSize; PVOID NumaNodeInfoArray;
    ULONG NumaNodeInfoArraySize, Reserved; } MINIDUMP_COMPRESSED_MEMORY_STREAM_START_CALLBACK;

typedef struct { ULONG ProcessId; HANDLE ProcessHandle; ULONG CallbackType; union {
    HRESULT Status;
    MINIDUMP_THREAD_CALLBACK Thread;
    MINIDUMP_THREAD_EX_CALLBACK ThreadEx;
    MINIDUMP_MODULE_CALLBACK Module;
    MINIDUMP_INCLUDE_THREAD_CALLBACK IncludeThread;
    MINIDUMP_INCLUDE_MODULE_CALLBACK IncludeModule;
    MINIDUMP_IO_CALLBACK Io;
    MINIDUMP_READ_MEMORY_FAILURE_CALLBACK ReadMemoryFailure;
    ULONG SecondaryFlags;
    MINIDUMP_VM_QUERY_CALLBACK VmQuery;
    MINIDUMP_VM_PRE_READ_CALLBACK VmPreRead;
    MINIDUMP_VM_POST_READ_CALLBACK VmPostRead;
    MINIDUMP_COMPRESSED_MEMORY_STREAM_FINISH_CALLBACK CompressedMemoryStreamFinish;
    }; } ms_callback_input;
#define MINIDUMP_CALLBACK_INPUT ms_callback_input

/* mingw has VmRegion and Status after the union. */
typedef struct { union {
    ULONG ModuleWriteFlags;
    ULONG ThreadWriteFlags;
    ULONG SecondaryFlags;
    struct { ULONG64 MemoryBase; ULONG MemorySize; };
    struct { BOOL CheckCancel; BOOL Cancel; };
    HANDLE Handle;
    struct { MINIDUMP_MEMORY_INFO VmRegion; BOOL Continue; };
    struct { HRESULT VmQueryStatus; MINIDUMP_MEMORY_INFO VmQueryResult; };
    struct { HRESULT VmReadStatus; ULONG VmReadBytesCompleted; };
    MINIDUMP_COMPRESSED_MEMORY_STREAM_START_CALLBACK CompressedMemoryStreamStart;
    HRESULT Status;
    }; } ms_callback_output;
#define MINIDUMP_CALLBACK_OUTPUT ms_callback_output

#pragma pack(pop)

/* Values that mingw does not have. */
enum {
    CompressedMemoryStreamStartCallback = 21, CompressedMemoryStreamFinishCallback = 22,
    CompressedMemoryStream = 25, CompressedMemoryStreamSQL = 0x7000,
    MiniDumpFilterWriteCombinedMemory = 0x01000000,
    MiniDumpNoIgnoreInaccessibleMemory = 0x02000000,
    MiniDumpWithMemoryCompressed = 0x04000000,
    ms_valid_type_flags = 0x05ffffff, MiniDumpValidTypeFlagsEx = 0x07ffffff,
    MiniSecondaryValidFlags = 1,
    MINIDUMP_MISC3_PROCESS_INTEGRITY = 0x10, MINIDUMP_MISC3_PROCESS_EXECUTE_FLAGS = 0x20,
    MINIDUMP_MISC3_TIMEZONE = 0x40, MINIDUMP_MISC3_PROTECTED_PROCESS = 0x80,
    MINIDUMP_MISC4_BUILDSTRING = 0x100, MINIDUMP_MISC5_PROCESS_COOKIE = 0x200,
    MINIDUMP_SYSMEMINFO1_FILECACHE_TRANSITIONREPURPOSECOUNT_FLAGS = 1,
    MINIDUMP_SYSMEMINFO1_BASICPERF = 2,
    MINIDUMP_SYSMEMINFO1_PERF_CCTOTALDIRTYPAGES_CCDIRTYPAGETHRESHOLD = 4,
    MINIDUMP_SYSMEMINFO1_PERF_RESIDENTAVAILABLEPAGES_SHAREDCOMMITPAGES = 8,
    MINIDUMP_SYSMEMINFO1_PERF_MDLPAGESALLOCATED_PFNDATABASECOMMITTEDPAGES = 0x10,
    MINIDUMP_SYSMEMINFO1_PERF_SYSTEMPAGETABLECOMMITTEDPAGES_CONTIGUOUSPAGESALLOCATED = 0x20,
    MINIDUMP_PROCESS_VM_COUNTERS = 1, MINIDUMP_PROCESS_VM_COUNTERS_VIRTUALSIZE = 2,
    MINIDUMP_PROCESS_VM_COUNTERS_EX = 4, MINIDUMP_PROCESS_VM_COUNTERS_EX2 = 8,
    MINIDUMP_PROCESS_VM_COUNTERS_JOB = 0x10,
};
#define MiniDumpValidTypeFlags ms_valid_type_flags

/* winnt.h names a flag CONTEXT_AMD64, and the x86 CONTEXT of x64 WOW64_CONTEXT. */
#undef CONTEXT_AMD64
#ifdef _WIN64
#define CONTEXT_AMD64 CONTEXT
#define CONTEXT_X86 WOW64_CONTEXT
#define FLOATING_SAVE_AREA WOW64_FLOATING_SAVE_AREA
#else
#define CONTEXT_X86 CONTEXT
#endif

#define EMIT(name, a, b) __asm__ volatile("\n->" name " %c0 %c1" ::"i"((long long)(a)), "i"((long long)(b)))
#define SIZE(type) EMIT(#type, 0, sizeof(type));
#define FIELD(type, field) \
    EMIT(#type "." #field, offsetof(type, field), sizeof(((type *)0)->field));
#define VALUE(name) EMIT(#name, name, 0);

void probes(void) {
#include "probes.inc"
}
