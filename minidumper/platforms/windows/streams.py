"""What the native writer says besides memory: system, process, modules, threads, regions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ctypes import byref, c_uint64, sizeof
from typing import TYPE_CHECKING

from ...errors import MemoryFaultError, NativeCallError
from ...formats.minidump import (
    MinidumpStreams,
    MiscInfo,
    Module,
    RegionInfo,
    SystemInfo,
    Thread,
)
from ...formats.peimage import read_pe
from ...ranges import MemoryRange
from ...target import ThreadInfo, VmRegion
from . import memory, toolhelp, win32
from .versions import fixed_file_info

if TYPE_CHECKING:
    from .process import WindowsProcess

_FILETIME_EPOCH_S = 11_644_473_600  # from 1601 to 1970, minwinbase.h
_FILETIME_PER_S = 10_000_000


def collect_streams(
    process: WindowsProcess, threads: Sequence[ThreadInfo], regions: Sequence[VmRegion]
) -> MinidumpStreams:
    """All that is known of a held process."""
    return MinidumpStreams(
        system=_system(),
        misc=_misc(process),
        modules=list(_modules(process)),
        threads=list(_threads(threads, regions)),
        regions=list(_regions(process.handle)),
        own={},
    )


def _system() -> SystemInfo:
    version = win32.OSVERSIONINFOEXW(dwOSVersionInfoSize=sizeof(win32.OSVERSIONINFOEXW))
    win32.RtlGetVersion(byref(version))
    system = win32.SYSTEM_INFO()
    win32.GetSystemInfo(byref(system))
    return SystemInfo(
        architecture=system.wProcessorArchitecture,
        level=system.wProcessorLevel,
        revision=system.wProcessorRevision,
        processors=min(system.dwNumberOfProcessors, 0xFF),
        product_type=version.wProductType,
        major=version.dwMajorVersion,
        minor=version.dwMinorVersion,
        build=version.dwBuildNumber,
        platform_id=version.dwPlatformId,
        service_pack=win32.text(version.szCSDVersion),
        suite_mask=version.wSuiteMask,
    )


def _misc(process: WindowsProcess) -> MiscInfo:
    times = [c_uint64() for _ in range(4)]
    try:
        win32.GetProcessTimes(process.handle, *(byref(time) for time in times))
    except NativeCallError:
        return MiscInfo(pid=process.pid)
    created, _, kernel, user = (time.value for time in times)
    return MiscInfo(
        pid=process.pid,
        create_time=max(0, created // _FILETIME_PER_S - _FILETIME_EPOCH_S),
        user_time=user // _FILETIME_PER_S,
        kernel_time=kernel // _FILETIME_PER_S,
    )


def _modules(process: WindowsProcess) -> Iterator[Module]:
    for path, base, end in toolhelp.modules(process.pid):
        module = Module(base, end - base, path, version_info=fixed_file_info(path))
        read = process.memory.read
        with suppress(MemoryFaultError):
            image = read_pe(read, base)
            if image:
                module = module._replace(checksum=image.checksum, timestamp=image.timestamp)
                first, last = image.codeview_range(read)
                module = module._replace(cv_record=read(first, last - first))
        yield module


def _threads(threads: Sequence[ThreadInfo], regions: Sequence[VmRegion]) -> Iterator[Thread]:
    starts = [region.start for region in regions]
    for thread in threads:
        index = bisect_right(starts, thread.sp) - 1
        inside = index >= 0 and thread.sp < regions[index].end
        yield Thread(
            thread.tid,
            thread.context,
            MemoryRange(thread.sp, regions[index].end) if inside else MemoryRange(0, 0),
            teb=thread.teb,
            name=thread.name,
        )


def _regions(handle: int) -> Iterator[RegionInfo]:
    """As dbghelp lists them: free and reserved ones too."""
    address = 0
    while (info := memory.query(handle, address)) is not None:
        address = info.BaseAddress + info.RegionSize
        yield RegionInfo(
            info.BaseAddress,
            address,
            info.AllocationBase,
            info.AllocationProtect,
            info.State,
            info.Protect,
            info.Type,
        )
