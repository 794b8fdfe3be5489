using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>What EnumMemoryRegions is asked for: MINIDUMP_TYPE decides first, then CLRDataEnumMemoryFlags.</summary>
/// <remarks>ClrDataAccess::EnumMemoryRegions, debug/daccess/enummem.cpp of dotnet/runtime.</remarks>
internal readonly record struct EnumerationMode(uint DumpFlags, uint ClrFlags)
{
    // MINIDUMP_TYPE (minidumpapiset.h): WithDataSegs 1, WithHandleData 4, WithPrivateReadWriteMemory 0x200,
    // WithFullMemoryInfo 0x800, WithThreadInfo 0x1000.

    /// <summary>Threads, stacks, modules: createdump's own choice for a mini dump.</summary>
    public static readonly EnumerationMode Mini = new(0x1005, 0);

    /// <summary>
    /// Takes loader and code heaps whole (CLRDATA_ENUM_MEM_HEAP2). A DAC before .NET 7 walks all types
    /// instead, which takes seconds.
    /// </summary>
    public static readonly EnumerationMode WholeHeaps = new(0xA04, 3);
}

/// <summary>ICLRDataEnumMemoryRegions, and the callback it fills a buffer through.</summary>
internal sealed unsafe class RegionEnumerator : ComObject
{
    private const int Ok = 0;
    private const int EnumSlot = 3;
    private static readonly Guid s_enumRegions = new("471c35b4-7c2f-4ef0-a945-00f8c38056f1");
    private static readonly Guid s_callback = new("BCDD6908-BA2D-4ec5-96CF-DF4D5CDCB4A4");
    private static readonly Guid s_callback2 = new("3721A26F-8B91-4D98-A388-DB17B356FADB");

    private readonly ComCallable _callback;
    private RegionBuffer _found = new();

    public RegionEnumerator(Dac dac)
        : base(dac.Require(s_enumRegions))
    {
        _callback = new ComCallable(
            this,
            s_callback,
            (nint)(delegate* unmanaged<nint*, ulong, uint, int>)&EnumMemoryRegion,
            (nint)(delegate* unmanaged<nint*, ulong, uint, byte*, int>)&UpdateMemoryRegion);
        _callback.Serve(s_callback2, _callback.Pointer);
    }

    /// <summary>Number of ranges that the last enumeration named.</summary>
    public int Count { get; private set; }

    /// <summary>Adds what the DAC names, as <see cref="Reasons.Enumerated"/>.</summary>
    /// <returns>The HRESULT.</returns>
    public int Enumerate(EnumerationMode mode, RegionBuffer found)
    {
        (_found, Count) = (found, 0);
        return ((delegate* unmanaged<nint, nint, uint, uint, int>)this[EnumSlot])(
            Self, _callback.Pointer, mode.DumpFlags, mode.ClrFlags);
    }

    [UnmanagedCallersOnly]
    private static int EnumMemoryRegion(nint* self, ulong address, uint size)
    {
        RegionEnumerator owner = ComCallable.Owner<RegionEnumerator>(self);
        owner._found.Add(address, address + size, Reasons.Enumerated);
        owner.Count++;
        return Ok;
    }

    // Replacements for bytes in the dump: only the mini and triage modes give them, and a reader of
    // our dumps finds the bytes that they replace just as well.
    [UnmanagedCallersOnly]
    private static int UpdateMemoryRegion(nint* self, ulong address, uint size, byte* bytes) => Ok;
}
