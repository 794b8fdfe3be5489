using Microsoft.Diagnostics.Runtime;

namespace Oracle;

/// <summary>The runtime, its domains, modules and native heaps.</summary>
internal static class Process
{
    public static void Runtime(Report report, ClrRuntime runtime)
    {
        IDataReader reader = runtime.DataTarget.DataReader;
        report.Line($"pid {reader.ProcessId} {reader.Architecture} {reader.TargetPlatform}");
        ModuleInfo clr = runtime.ClrInfo.ModuleInfo;
        report.Line($"clr {clr.FileName} {clr.ImageBase:x} build id {Convert.ToHexStringLower(clr.BuildId.AsSpan())} {runtime.ClrInfo.Flavor} single file {runtime.ClrInfo.IsSingleFile}");
        report.Line($"heap server {runtime.Heap.IsServer} walkable {runtime.Heap.CanWalkHeap} subheaps {runtime.Heap.SubHeaps.Length}");
        foreach (ClrJitManager jit in runtime.EnumerateJitManagers())
        {
            report.Line($"jit {jit.Address:x} {jit.Kind}");
        }
    }

    public static void AppDomains(Report report, ClrRuntime runtime)
    {
        foreach (ClrAppDomain? domain in runtime.AppDomains.Append(runtime.SystemDomain).Append(runtime.SharedDomain))
        {
            if (domain is not null)
            {
                report.Line($"{domain.Address:x} id {domain.Id} {domain.Name} base {domain.ApplicationBase} modules {domain.Modules.Length}");
            }
        }
    }

    public static void Modules(Report report, ClrRuntime runtime)
    {
        foreach (ClrModule module in runtime.EnumerateModules().OrderBy(m => m.Address))
        {
            report.Guard($"module {module.Address:x}", () =>
            {
                report.Line($"{module.Address:x} {module.Name} assembly {module.AssemblyName} {module.AssemblyAddress:x} image {module.ImageBase:x}+{module.Size:x} {module.Layout} dynamic {module.IsDynamic} pe {module.IsPEFile} loader {module.LoaderAllocator:x} debugging {module.DebuggingMode}");
                report.Line($"    metadata {module.MetadataAddress:x}+{module.MetadataLength:x} {Memory.Hash(runtime, module.MetadataAddress, module.MetadataLength)}");
                report.Line($"    pdb {module.Pdb}");
            });
        }
    }

    public static void NativeHeaps(Report report, ClrRuntime runtime)
    {
        foreach (ClrNativeHeapInfo heap in runtime.EnumerateClrNativeHeaps().OrderBy(h => h.MemoryRange.Start).ThenBy(h => h.Kind))
        {
            report.Line($"{heap.MemoryRange.Start:x}-{heap.MemoryRange.End:x} {heap.Kind} {heap.State} heap {heap.GCHeap}");
        }
    }
}

/// <summary>Memory of the dump.</summary>
internal static class Memory
{
    /// <summary>A hash of [address, address + length), or where reading ended.</summary>
    public static string Hash(ClrRuntime runtime, ulong address, ulong length)
    {
        using var hash = new RunningHash();
        byte[] buffer = new byte[1 << 20];
        for (ulong done = 0; done < length;)
        {
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min((ulong)buffer.Length, length - done));
            int read = runtime.DataTarget.DataReader.Read(address + done, part);
            if (read <= 0)
            {
                return $"unreadable at {address + done:x}";
            }
            hash.Add(part[..read]);
            done += (ulong)read;
        }
        return hash.ToString();
    }

    /// <summary>The bytes at an address, in hexadecimal.</summary>
    public static string Bytes(ClrRuntime runtime, ulong address, int size)
    {
        byte[] bytes = new byte[size];
        int read = runtime.DataTarget.DataReader.Read(address, bytes);
        return read == size ? Convert.ToHexStringLower(bytes) : $"unreadable after {read} of {size}";
    }
}
