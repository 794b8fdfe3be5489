using System;
using System.Linq;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// Walks everything that SOS's main commands read, while the target runs, and keeps which pages it
/// took. What it meets may be torn: a failure counts, and the walk goes on.
/// </summary>
internal sealed class Rehearsal(TargetDataReader reader, SosDac sos, ClrRuntime runtime)
{
    /// <summary>The DAC keeps a copy of all it reads, so it is flushed after so many types and methods.</summary>
    private const int VisitsBetweenFlushes = 5000;

    /// <summary>The part of the budget for finding generic instances on the heap, whatever its size.</summary>
    private const double ObjectsShare = 0.2;

    private Action<string, long, long>? _progress;
    private Deadline _deadline;
    private long _objects;
    private int _failures;

    public Answer Run(double seconds, RegionBuffer kept, Action<string, long, long>? progress)
    {
        _progress = progress;
        _deadline = Deadline.After(seconds);
        ModuleImages? images = null;
        TypeWalk? types = null;
        Flush();
        try
        {
            Step(() => images = new ModuleImages(runtime, sos));
            if (images is not null)
            {
                types = new TypeWalk(reader, sos, images);
                Walk(types, images, kept, seconds);
            }
        }
        finally
        {
            reader.RecordTo(null, Reasons.None);
            Flush();
        }

        return new Answer(Describe(types), []);
    }

    private void Walk(TypeWalk types, ModuleImages images, RegionBuffer kept, double seconds)
    {
        reader.RecordTo(kept, Reasons.Rehearsed);
        Step(Structures);
        Step(() => Modules(types));
        // Those of the modules first: however large the heap, they are walked.
        Step(() => Types(types));
        // Not of the objects: their pages are dumped by what is in use at the stop.
        reader.RecordTo(null, Reasons.None);
        HeapTypes heap = new(reader, sos, runtime, images);
        Step(() => heap.Find(types.Add, Deadline.After(seconds * ObjectsShare)));
        _objects = heap.Objects;
        Flush();
        reader.RecordTo(kept, Reasons.Rehearsed);
        Step(() => Types(types));
    }

    /// <summary>Does what may meet torn structures.</summary>
    public void Step(Action step)
    {
        _progress?.Invoke("rehearsal", 0, 0);
        try
        {
            step();
        }
        catch (Exception error) when (error is not OutOfMemoryException)
        {
            _failures++;
        }
    }

    /// <summary>The runtime's own lists.</summary>
    private void Structures()
    {
        foreach (ClrAppDomain domain in runtime.AppDomains)
            _ = domain.Name;
        _ = runtime.EnumerateSyncBlockCleanupData().Count();
        sos.SyncBlocks(_deadline);
        // From .NET 8 on the tables' segments are taken whole at the stop, but not the tables themselves, which
        // are memory of the C heap.
        _ = runtime.EnumerateHandles().TakeWhile(_ => !_deadline.Passed).Count();
        foreach (ClrSubHeap subHeap in runtime.Heap.SubHeaps)
            _ = subHeap.OomInfo;
        if (runtime.StressLog is { } log)
            _ = log.EnumerateMessages().TakeWhile(_ => !_deadline.Passed).Count();
    }

    /// <summary>Every module with its assembly, load context and types.</summary>
    private void Modules(TypeWalk types)
    {
        types.SetThreads(runtime.Threads.Select(thread => thread.Address).ToArray());
        foreach (ClrModule module in runtime.EnumerateModules())
        {
            if (_deadline.Passed)
                return;

            Step(() =>
            {
                sos.Image(module.Address);
                sos.Assembly(module.AppDomain.Address, module.AssemblyAddress);
                foreach ((ulong methodTable, int _) in module.EnumerateTypeDefToMethodTableMap())
                    types.Add(methodTable);
                if (module.IsDynamic)
                    ReadIl(module);
            });
        }
    }

    /// <summary>Bodies of emitted methods: they lie in no image.</summary>
    private void ReadIl(ClrModule module)
    {
        foreach ((ulong methodTable, int _) in module.EnumerateTypeDefToMethodTableMap())
        {
            foreach (ClrMethod method in runtime.GetTypeByMethodTable(methodTable)?.Methods ?? [])
            {
                if (method.GetILInfo() is { } il)
                    reader.Record(il.Address, (ulong)il.Length);
            }
        }
    }

    private void Types(TypeWalk types)
    {
        int flushed = 0;
        while (!_deadline.Passed && types.VisitNext())
        {
            if (types.Types + types.Methods - flushed < VisitsBetweenFlushes)
                continue;
            flushed = types.Types + types.Methods;
            _progress?.Invoke("types", types.Types, 0);
            Flush();
        }
    }

    private void Flush()
    {
        reader.FlushCachedData();
        runtime.FlushCachedData();
    }

    private string Describe(TypeWalk? types) => Facts.Write(json =>
    {
        json.WriteBoolean("complete", !_deadline.Passed);
        json.WriteNumber("types", types?.Types ?? 0);
        json.WriteNumber("methods", types?.Methods ?? 0);
        json.WriteNumber("objects", _objects);
        json.WriteNumber("failures", _failures);
    });
}
