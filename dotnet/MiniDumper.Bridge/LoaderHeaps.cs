using System.Collections.Generic;
using System.Linq;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// The heaps of the loader and of code, as <see cref="ClrRuntime.EnumerateClrNativeHeaps"/> lists them, without
/// the GC's memory: the DAC's lists of that are lost for good where ClrMD asks for them, 17 KB each time (see
/// <see cref="ComObject.ReleaseLast"/>), and <see cref="SosDac"/> gives them.
/// </summary>
internal static class LoaderHeaps
{
    public static IEnumerable<ClrNativeHeapInfo> Of(ClrRuntime runtime)
    {
        IEnumerable<ClrAppDomain?> domains = [runtime.SystemDomain, runtime.SharedDomain, .. runtime.AppDomains];
        ClrModule[] modules = [.. runtime.EnumerateModules()];
        return
        [
            .. runtime.EnumerateJitManagers().SelectMany(manager => manager.EnumerateNativeHeaps()),
            .. domains.SelectMany(domain => domain?.EnumerateLoaderAllocatorHeaps() ?? []),
            .. modules.DistinctBy(module => module.ThunkHeap).SelectMany(module => module.EnumerateThunkHeap()),
            // Most have that of their domain, which comes a second time; collectible ones have their own.
            .. modules.DistinctBy(module => module.LoaderAllocator)
                .SelectMany(module => module.EnumerateLoaderAllocatorHeaps()),
        ];
    }
}
