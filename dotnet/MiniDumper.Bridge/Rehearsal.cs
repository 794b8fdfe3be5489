using System;
using System.Linq;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// Walks everything that SOS's main commands read, while the target runs, and keeps which pages it
/// took. What it meets may be torn: a failure counts, and the walk goes on.
/// </summary>
internal sealed class Rehearsal(
    TargetDataReader reader, SosDac sos, ClrRuntime runtime, RegionEnumerator enumerator)
{
    /// <summary>No single structure is longer; a longer one has a torn size.</summary>
    private const uint MaxStructure = 1 << 20;

    /// <summary>The DAC keeps a copy of all it reads, so it is flushed after so many types.</summary>
    private const int TypesBetweenFlushes = 2000;

    private const int ObjectsBetweenLooks = 1000;

    private readonly TypeWalk _types = new(reader, sos);
    private Deadline _deadline;
    private long _objects;
    private int _failures;

    public Answer Run(double seconds, RegionBuffer kept)
    {
        _deadline = Deadline.After(seconds);
        Flush();
        try
        {
            // What this reads to find its ranges is code and tables in files, for the most part.
            Step(() => enumerator.Enumerate(EnumerationMode.Heap, kept, _deadline, IsSound));
            reader.RecordTo(kept, Reasons.Rehearsed);
            Step(Structures);
            Step(Modules);
            reader.RecordTo(null, Reasons.None);
            Step(Objects);
            Flush();
            reader.RecordTo(kept, Reasons.Rehearsed);
            Step(Types);
        }
        finally
        {
            reader.RecordTo(null, Reasons.None);
            Flush();
        }

        return new Answer(Describe(), []);
    }

    /// <summary>Does what may meet torn structures.</summary>
    public void Step(Action step)
    {
        try
        {
            step();
        }
        catch (Exception error) when (error is not OutOfMemoryException)
        {
            _failures++;
        }
    }

    /// <summary>Leaves torn sizes out, and files, whose changed pages are dumped as such.</summary>
    private bool IsSound(ulong address, uint size) => size <= MaxStructure && !reader.IsInFile(address);

    /// <summary>The runtime's own lists.</summary>
    private void Structures()
    {
        foreach (ClrAppDomain domain in runtime.AppDomains)
            _ = domain.Name;
        _ = runtime.EnumerateClrNativeHeaps().Count();
        _ = runtime.EnumerateHandles().Count();
        _ = runtime.EnumerateSyncBlockCleanupData().Count();
        _ = runtime.Heap.EnumerateSyncBlocks().Count();
        _ = runtime.ThreadPool?.MinThreads;
        foreach (ClrSubHeap subHeap in runtime.Heap.SubHeaps)
            _ = subHeap.OomInfo;
        if (runtime.StressLog is { } log)
            _ = log.EnumerateMessages().TakeWhile(_ => !_deadline.Passed).Count();
    }

    /// <summary>Every module with its assembly, load context and types.</summary>
    private void Modules()
    {
        _types.SetThreads(runtime.Threads.Select(thread => thread.Address).ToArray());
        foreach (ClrModule module in runtime.EnumerateModules())
        {
            if (_deadline.Passed)
                return;

            Step(() =>
            {
                sos.Image(module.Address);
                sos.Assembly(module.AppDomain.Address, module.AssemblyAddress);
                foreach ((ulong methodTable, int _) in module.EnumerateTypeDefToMethodTableMap())
                    _types.Add(methodTable);
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

    /// <summary>Adds the types of all objects, which is where generic instances are found.</summary>
    private void Objects()
    {
        if (!runtime.Heap.CanWalkHeap)
            return;

        foreach (ClrSegment segment in runtime.Heap.Segments)
        {
            Step(() =>
            {
                foreach (ClrObject item in segment.EnumerateObjects())
                {
                    if (++_objects % ObjectsBetweenLooks == 0 && _deadline.Passed)
                        return;
                    if (item.Type is { } type)
                        _types.Add(type.MethodTable);
                }
            });
        }
    }

    private void Types()
    {
        for (int i = 1; !_deadline.Passed && _types.VisitNext(); i++)
        {
            if (i % TypesBetweenFlushes == 0)
                Flush();
        }
    }

    private void Flush()
    {
        reader.FlushCachedData();
        runtime.FlushCachedData();
    }

    private string Describe() => Facts.Write(json =>
    {
        json.WriteBoolean("complete", !_deadline.Passed);
        json.WriteNumber("types", _types.Types);
        json.WriteNumber("methods", _types.Methods);
        json.WriteNumber("objects", _objects);
        json.WriteNumber("failures", _failures);
    });
}
