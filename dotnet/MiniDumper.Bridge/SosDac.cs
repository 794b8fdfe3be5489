using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// ISOSDacInterface and its successors, called for what they read: names go nowhere, and a failure
/// is no more than false. Slots are those of sospriv.idl (dotnet/runtime), IUnknown's three first.
/// </summary>
internal sealed unsafe class SosDac : ComObject
{
    private const int NameLength = 1024;
    private const int MaxVersions = 32;
    private const uint ModuleDataRequest = 0xf0000001; // DACDATAMODULEPRIV_REQUEST_GET_MODULEDATA
    private static readonly Guid s_sos = new("436f00f2-b42a-4b9f-870c-e73db66ae930");
    private static readonly Guid s_metadataImport = new("7dac8207-d3ae-4c75-9b67-92801a497d44"); // cor.h

    private readonly char* _name = (char*)NativeMemory.Alloc(NameLength, sizeof(char));
    private readonly ComObject? _sos5;
    private readonly ComObject? _sos7;
    private readonly ComObject? _sos8;
    private readonly ComObject? _sos13;
    private readonly ComObject? _sos14;
    private readonly ComObject? _sos15;

    public SosDac(Dac dac)
        : base(dac.Require(s_sos))
    {
        _sos5 = Query(new("127d6abe-6c86-4e48-8e7b-220781c58101"));
        _sos7 = Query(new("c1020dde-fe98-4536-a53b-f35a74c327eb"));
        _sos8 = Query(new("c12f35a9-e55c-4520-a894-b3dc5165dfce"));
        _sos13 = Query(new("3176a8ed-597b-4f54-a71f-83695c6a8c5e"));
        _sos14 = Query(new("9aa22aca-6dc6-4a0c-b4e0-70d2416b9837"));
        _sos15 = Query(new("7ed81261-52a9-4a23-a358-c3313dea30a8"));
    }

    /// <summary>Reads an assembly's data, name and location.</summary>
    public void Assembly(ulong domain, ulong assembly)
    {
        byte* data = stackalloc byte[0x40]; // DacpAssemblyData
        Get(10, domain, assembly, data);
        Name(11, assembly);
        Name(85, assembly);
    }

    /// <summary>How a module lies in memory; reads its IXCLRDataModule's names too.</summary>
    public ImageData Image(ulong module)
    {
        byte* data = stackalloc byte[0xa0]; // DacpModuleData
        Get(13, module, data);
        ImageData image = default;
        if (Child(12, module) is ComObject clrModule)
        {
            uint length;
            clrModule.Get(29, NameLength, &length, _name);
            clrModule.Get(30, NameLength, &length, _name);
            clrModule.Get(31, &length);
            clrModule.Request(36, ModuleDataRequest, &image, sizeof(ImageData));
            clrModule.Release();
        }

        return image;
    }

    /// <summary>Reads a thread's data and its stack's limits.</summary>
    public bool Thread(ulong thread, out ThreadData data)
    {
        ulong* limits = stackalloc ulong[3];
        ((delegate* unmanaged<nint, ulong, ulong*, ulong*, ulong*, int>)this[19])(
            Self, thread, limits, limits + 1, limits + 2);
        fixed (ThreadData* found = &data)
            return Get(17, thread, found);
    }

    /// <summary>The object of an exception that waits behind another, and the next record behind it.</summary>
    public bool NestedException(ulong record, out ulong exception, out ulong next)
    {
        fixed (ulong* foundException = &exception, foundNext = &next)
            return Get(65, record, foundException, foundNext);
    }

    /// <summary>
    /// Whether no GC is in the middle of its work at this moment. ClrMD's CanWalkHeap tells it of the moment
    /// at which the heap was first asked for, and no flush renews that.
    /// </summary>
    public bool GcStructuresValid()
    {
        uint* data = stackalloc uint[4]; // DacpGcHeapData: server mode, structures valid, heaps, generations
        return Get(46, data) && data[1] != 0;
    }

    /// <summary>The segments of the handle tables, from .NET 8 on.</summary>
    public IReadOnlyList<MemoryRange> HandleTables() => MemoryRegions(7);

    /// <summary>The GC's card, mark and region maps, from .NET 8 on.</summary>
    public IReadOnlyList<MemoryRange> GcBookkeeping() => MemoryRegions(8);

    public bool MethodTable(ulong methodTable, out MethodTableData data)
    {
        fixed (MethodTableData* found = &data)
            return Get(37, methodTable, found);
    }

    /// <summary>Reads what dumpmt shows beside the method table itself, and where its statics lie.</summary>
    public void MethodTableSurroundings(ulong methodTable, ReadOnlySpan<ulong> threads)
    {
        ulong* found = stackalloc ulong[2];
        Name(36, methodTable);
        _sos8?.Get(8, methodTable, found); // GetAssemblyLoadContext
        if (_sos14 is null)
            return;

        _sos14.Get(3, methodTable, found, found + 1); // GetStaticBaseAddress
        _sos14.Get(5, methodTable, found); // GetMethodTableInitializationFlags
        foreach (ulong thread in threads)
            _sos14.Get(4, methodTable, thread, found, found + 1); // GetThreadStaticBaseAddress
    }

    /// <summary>
    /// The name of a type, by the metadata of its module where ClrMD has none: Windows' DAC calls a name that
    /// fills the buffer cut short, which ClrMD, whose buffer is made to measure, takes for a failure.
    /// </summary>
    public string? NameOf(ClrType type)
    {
        if (!string.IsNullOrEmpty(type.Name) || type.Module is not ClrModule module || Child(12, module.Address) is not ComObject clrModule)
            return type.Name;

        string? name = null;
        if (clrModule.Query(s_metadataImport) is ComObject metadata)
        {
            if (metadata.TypeName(12, type.MetadataToken, NameLength, _name)) // GetTypeDefProps
                name = new string(_name);
            metadata.Release();
        }

        clrModule.Release();
        return name;
    }

    public bool Fields(ulong methodTable, out MethodTableFields data)
    {
        fixed (MethodTableFields* found = &data)
            return Get(39, methodTable, found);
    }

    public bool Field(ulong field, out FieldData data)
    {
        fixed (FieldData* found = &data)
            return Get(42, field, found);
    }

    /// <summary>The enumerator of a method table's methods; null before .NET 9, where slots are numbers.</summary>
    public ComObject? MethodSlots(ulong methodTable) => _sos15?.Child(3, methodTable);

    /// <summary>The entry points of a type's methods by their MethodDesc, from .NET 9 on.</summary>
    public Dictionary<ulong, ulong> EntryPoints(ulong methodTable)
    {
        const int slotsAtOnce = 64;
        Dictionary<ulong, ulong> found = [];
        if (MethodSlots(methodTable) is not ComObject slots)
            return found;

        MethodSlot* items = stackalloc MethodSlot[slotsAtOnce];
        uint fetched;
        while (slots.Get(6, slotsAtOnce, items, &fetched) && fetched > 0) // Next
        {
            for (int i = 0; i < Math.Min(fetched, slotsAtOnce); i++)
                found[items[i].MethodDesc] = items[i].EntryPoint;
        }

        slots.Release();
        return found;
    }

    /// <summary>The entry point in a numbered slot.</summary>
    public bool Slot(ulong methodTable, int slot, out ulong entryPoint)
    {
        fixed (ulong* found = &entryPoint)
            return Get(38, methodTable, (ulong)slot, found);
    }

    public bool MethodDescAt(ulong address, out ulong methodDesc)
    {
        fixed (ulong* found = &methodDesc)
            return Get(21, address, found);
    }

    public bool CodeHeader(ulong address, out CodeHeaderData data)
    {
        fixed (CodeHeaderData* found = &data)
            return Get(26, address, found);
    }

    /// <summary>Reads a method, its name, its versions, and what dumpmd and ip2md show of them.</summary>
    public bool MethodDesc(ulong methodDesc, ulong address, out MethodDescData data)
    {
        byte* reverted = stackalloc byte[24 * MaxVersions]; // DacpReJitData
        uint needed;
        fixed (MethodDescData* found = &data)
        {
            int result = ((delegate* unmanaged<nint, ulong, ulong, MethodDescData*, uint, byte*, uint*, int>)this[20])(
                Self, methodDesc, address, found, MaxVersions, reverted, &needed);
            if (result < 0)
                return false;
        }

        MethodDescName(methodDesc);
        if (_sos7 is not null)
        {
            byte* version = stackalloc byte[24]; // DacpReJitData2, DacpProfilerILData
            int pending = 0;
            _sos7.Get(4, methodDesc, data.RejitId, version); // GetReJITInformation
            if (_sos7.Get(3, methodDesc, &pending)) // GetPendingReJITID
                _sos7.Get(4, methodDesc, (ulong)pending, version);
            _sos7.Get(5, methodDesc, version); // GetProfilerModifiedILInformation
        }

        return true;
    }

    public bool MethodDescName(ulong methodDesc) => Name(22, methodDesc);

    /// <summary>Reads what a frame of the runtime's own is called, and the method it stands for.</summary>
    public void ExplicitFrame(ulong frame, ulong virtualTable)
    {
        ulong method;
        Name(43, virtualTable);
        if (Get(23, frame, &method))
            Name(22, method);
    }

    /// <summary>What the JIT calls its helper at an address; null where there is none.</summary>
    public string? HelperName(ulong address)
    {
        // GetJitHelperFunctionName writes 8-bit characters.
        uint length;
        return Get(28, address, NameLength, _name, &length) ? Marshal.PtrToStringUTF8((nint)_name) : null;
    }

    /// <summary>Reads the thread pool of the runtime itself, as there is one up to .NET 5.</summary>
    public void ThreadPool()
    {
        byte* data = stackalloc byte[0x58]; // DacpThreadpoolData
        Get(30, data);
    }

    /// <summary>Reads the sync blocks until the deadline, the youngest first; their number.</summary>
    public int SyncBlocks(Deadline deadline)
    {
        byte* data = stackalloc byte[0x48]; // DacpSyncBlockData, with their number at its end
        if (!Get(59, 1, data))
            return 0;

        uint count = *(uint*)(data + 0x40);
        for (uint number = count; number > 0 && !deadline.Passed; number--)
            Get(59, number, data);
        return (int)count;
    }

    /// <summary>The native code of all tiers of a method's current version.</summary>
    public int TieredVersions(ulong methodDesc, ulong rejitId, Span<TieredVersion> versions)
    {
        int count = 0;
        if (_sos5 is null)
            return 0;

        fixed (TieredVersion* found = versions)
        {
            bool done = _sos5.Get(3, methodDesc, rejitId, found, versions.Length, &count);
            return done ? Math.Min(count, versions.Length) : 0;
        }
    }

    /// <summary>Reads the exception clauses of a piece of code.</summary>
    public void ExceptionClauses(ulong address) =>
        Get(64, address, (void*)(delegate* unmanaged<uint, uint, void*, void*, int>)&NextClause, null);

    /// <summary>The body of a method by its place in the image.</summary>
    public bool Il(ulong module, uint offset, out ulong address)
    {
        fixed (ulong* found = &address)
            return Get(16, module, offset, found);
    }

    [UnmanagedCallersOnly]
    private static int NextClause(uint index, uint count, void* clause, void* token) => 1;

    private List<MemoryRange> MemoryRegions(int slot)
    {
        const int regionsAtOnce = 32;
        List<MemoryRange> found = [];
        if (_sos13?.Child(slot) is not ComObject regions)
            return found;

        MemoryRegion* items = stackalloc MemoryRegion[regionsAtOnce];
        uint fetched;
        while (regions.Get(6, regionsAtOnce, items, &fetched) && fetched > 0) // Next
        {
            for (int i = 0; i < Math.Min(fetched, regionsAtOnce); i++)
                found.Add(MemoryRange.CreateFromLength((nuint)items[i].Start, items[i].Size)); // of 32 bits: sign-extended
        }

        regions.ReleaseLast();
        return found;
    }

    private bool Name(int slot, ulong of)
    {
        uint length;
        return Get(slot, of, NameLength, _name, &length);
    }
}
