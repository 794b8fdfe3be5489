using System;
using System.Collections.Generic;

namespace MiniDumper.Bridge;

/// <summary>
/// Reads of types, fields and methods what SOS's dumpmt, dumpclass, dumpmd, ip2md, ehinfo and gcinfo
/// read. Code in the images of files is left to those files.
/// </summary>
internal sealed class TypeWalk(TargetDataReader reader, SosDac sos, ModuleImages images)
{
    private const int MaxFields = 1 << 16;
    private const int SlotsAtOnce = 64;
    private const int MaxVersions = 32;

    private readonly HashSet<ulong> _seen = [];
    private readonly Stack<ulong> _rest = [];
    private readonly HashSet<ulong> _methods = [];
    private ulong[] _threads = [];

    /// <summary>Number of types visited.</summary>
    public int Types { get; private set; }

    /// <summary>Number of methods visited.</summary>
    public int Methods => _methods.Count;

    /// <summary>The threads whose statics are read too.</summary>
    public void SetThreads(ulong[] threads) => _threads = threads;

    /// <summary>Puts a type on the list of those to visit, once.</summary>
    public void Add(ulong methodTable)
    {
        if (methodTable != 0 && _seen.Add(methodTable))
            _rest.Push(methodTable);
    }

    /// <summary>Visits the next type of the list; false where there is none.</summary>
    public bool VisitNext()
    {
        if (!_rest.TryPop(out ulong methodTable))
            return false;

        // The type of free space on the heap has no methods; asking for its slots crashes the DAC.
        if (sos.MethodTable(methodTable, out MethodTableData data) && data.IsFree == 0)
        {
            Types++;
            Add(data.Parent);
            VisitFields(methodTable, data.Parent);
            if (!VisitSlots(methodTable))
                VisitNumberedSlots(methodTable, data.MethodCount);
        }

        return true;
    }

    private void VisitFields(ulong methodTable, ulong parent)
    {
        if (!sos.Fields(methodTable, out MethodTableFields fields))
            return;

        sos.MethodTableSurroundings(methodTable, fields.ThreadStaticCount > 0 ? _threads : []);
        sos.Fields(parent, out MethodTableFields inherited);
        // Those of threads are among the static ones. Beyond the last, the DAC would crash.
        int count = fields.InstanceCount - inherited.InstanceCount + fields.StaticCount;
        ulong next = fields.First;
        for (int i = 0; i < Math.Min(count, MaxFields) && sos.Field(next, out FieldData field); i++)
        {
            Add(field.Type);
            next = field.Next;
        }
    }

    private unsafe bool VisitSlots(ulong methodTable)
    {
        if (sos.MethodSlots(methodTable) is not ComObject slots)
            return false;

        MethodSlot* items = stackalloc MethodSlot[SlotsAtOnce];
        uint fetched;
        while (slots.Get(6, SlotsAtOnce, items, &fetched) && fetched > 0) // Next
        {
            for (int i = 0; i < Math.Min(fetched, SlotsAtOnce); i++)
                VisitSlot(items[i].EntryPoint, items[i].MethodDesc);
        }

        slots.Release();
        return true;
    }

    private void VisitNumberedSlots(ulong methodTable, int count)
    {
        for (int i = 0; i < count; i++)
        {
            if (sos.Slot(methodTable, i, out ulong entryPoint))
                VisitSlot(entryPoint, 0);
        }
    }

    private void VisitSlot(ulong entryPoint, ulong methodDesc)
    {
        if (entryPoint != 0)
        {
            if (sos.CodeHeader(entryPoint, out CodeHeaderData header))
                VisitMethod(header.MethodDesc);
            if (sos.MethodDescAt(entryPoint, out ulong found))
                VisitMethod(found);
        }

        VisitMethod(methodDesc);
    }

    private void VisitMethod(ulong methodDesc)
    {
        if (methodDesc == 0 || !_methods.Add(methodDesc) || !sos.MethodDesc(methodDesc, 0, out MethodDescData data))
            return;

        Span<TieredVersion> versions = stackalloc TieredVersion[MaxVersions];
        int count = sos.TieredVersions(methodDesc, data.RejitId, versions);
        for (int i = 0; i < count; i++)
            VisitCode(methodDesc, versions[i].NativeCode);
        VisitCode(methodDesc, data.NativeCode);
    }

    private void VisitCode(ulong methodDesc, ulong address)
    {
        if (address == 0)
            return;

        bool known = sos.CodeHeader(address, out CodeHeaderData header);
        sos.MethodDesc(methodDesc, address, out _);
        if (!known || images.Contains(address))
            return;

        sos.ExceptionClauses(address);
        reader.Record(header.GcInfo, header.GcInfoSize);
    }
}
