using Microsoft.Diagnostics.Runtime;

namespace Oracle;

/// <summary>The GC heap: segments, objects, and what points into it.</summary>
internal static class Heap
{
    public static void Segments(Report report, ClrRuntime runtime)
    {
        foreach (ClrSubHeap heap in runtime.Heap.SubHeaps)
        {
            report.Line($"subheap {heap.Index} {heap.Address:x} regions {heap.HasRegions} pinned {heap.HasPinnedObjectHeap} background {heap.HasBackgroundGC} allocated {heap.Allocated:x} ephemeral {heap.EphemeralHeapSegment:x} range {heap.LowestAddress:x}-{heap.HighestAddress:x} cards {heap.CardTable:x} marks {heap.MarkArray:x} allocation {heap.AllocationContext.Start:x}-{heap.AllocationContext.End:x} roots {heap.InternalRootArray.Start:x}-{heap.InternalRootArray.End:x}");
            foreach (ClrGenerationData generation in heap.GenerationTable)
            {
                report.Line($"    generation {generation}");
            }
        }
        foreach (ClrSegment segment in Ordered(runtime))
        {
            report.Line($"{segment.Address:x} {segment.Kind} subheap {segment.SubHeap.Index} objects {segment.Start:x}-{segment.End:x} committed {segment.CommittedMemory.Start:x}-{segment.CommittedMemory.End:x} reserved {segment.ReservedMemory.Start:x}-{segment.ReservedMemory.End:x} gen0 {segment.Generation0.Start:x}-{segment.Generation0.End:x} gen1 {segment.Generation1.Start:x}-{segment.Generation1.End:x} gen2 {segment.Generation2.Start:x}-{segment.Generation2.End:x} bytes {Memory.Hash(runtime, segment.Start, segment.Length)}");
        }
    }

    public static void ByType(Report report, ClrRuntime runtime)
    {
        var totals = new Dictionary<ulong, (string? Name, int Count, ulong Bytes)>();
        foreach (ClrObject obj in runtime.Heap.EnumerateObjects())
        {
            ulong table = obj.Type?.MethodTable ?? 0;
            (_, int count, ulong bytes) = totals.GetValueOrDefault(table);
            totals[table] = (obj.Type?.Name, count + 1, bytes + obj.Size);
        }
        foreach ((ulong table, (string? name, int count, ulong bytes)) in totals.OrderBy(t => t.Key))
        {
            report.Line($"{table:x} {count} {bytes} {name}");
        }
    }

    public static void Objects(Report report, ClrRuntime runtime) => BySegment(report, runtime, (hash, obj) =>
    {
        hash.Add(obj.Type?.MethodTable ?? 0);
        hash.Add(obj.Size);
        return $"{obj.Type?.MethodTable:x} {obj.Size} {obj.Type?.Name}";
    });

    public static void Strings(Report report, ClrRuntime runtime) => BySegment(report, runtime, (hash, obj) =>
    {
        if (obj.Type is not { IsString: true })
        {
            return null;
        }
        string text = obj.AsString(int.MaxValue) ?? "unreadable";
        hash.Add(text);
        return $"\"{text}\"";
    });

    public static void References(Report report, ClrRuntime runtime)
    {
        var targets = new List<ulong>();
        BySegment(report, runtime, (hash, obj) =>
        {
            targets.Clear();
            targets.AddRange(obj.EnumerateReferenceAddresses(carefully: false, considerDependantHandles: true));
            targets.ForEach(hash.Add);
            return targets.Count == 0 ? null : string.Join(' ', targets.Select(t => t.ToString("x")));
        });
    }

    public static void Handles(Report report, ClrRuntime runtime)
    {
        foreach (ClrHandle handle in runtime.EnumerateHandles().OrderBy(h => h.Address))
        {
            report.Line($"{handle.Address:x} {handle.HandleKind} {handle.Object.Address:x} {handle.Object.Type?.Name} dependent {handle.Dependent.Address:x} count {handle.ReferenceCount} domain {handle.AppDomain?.Address:x}");
        }
    }

    public static void Finalizers(Report report, ClrRuntime runtime)
    {
        foreach (ClrObject obj in runtime.Heap.EnumerateFinalizableObjects())
        {
            report.Line($"alive {obj.Address:x} {obj.Type?.Name}");
        }
        foreach (ClrRoot root in runtime.Heap.EnumerateFinalizerRoots())
        {
            report.Line($"ready {root.Address:x} {root.Object.Address:x} {root.Object.Type?.Name}");
        }
    }

    public static void SyncBlocks(Report report, ClrRuntime runtime)
    {
        foreach (SyncBlock block in runtime.Heap.EnumerateSyncBlocks())
        {
            report.Line($"{block.Index} {block.Object:x} held {block.IsMonitorHeld} by {block.HoldingThreadAddress:x} recursion {block.RecursionCount} waiting {block.WaitingThreadCount} com {block.ComFlags}");
        }
        foreach (ClrObject obj in runtime.Heap.EnumerateObjects())
        {
            if (obj.GetThinLock() is { } thin)
            {
                report.Line($"thin {obj.Address:x} by {thin.Thread?.OSThreadId} recursion {thin.Recursion}");
            }
        }
    }

    /// <summary>A line a segment: how many objects counted and a hash of what was added for them.</summary>
    /// <param name="add">Adds an object to the hash; its text for --list, null where it does not count.</param>
    private static void BySegment(Report report, ClrRuntime runtime, Func<RunningHash, ClrObject, string?> add)
    {
        foreach (ClrSegment segment in Ordered(runtime))
        {
            report.Guard($"segment {segment.Address:x}", () =>
            {
                using var hash = new RunningHash();
                int count = 0;
                foreach (ClrObject obj in segment.EnumerateObjects())
                {
                    if (add(hash, obj) is string text)
                    {
                        hash.Add(obj.Address);
                        count++;
                        if (report.List)
                        {
                            report.Line($"    {obj.Address:x} {text}");
                        }
                    }
                }
                report.Line($"{segment.Address:x} {segment.Kind} {count} {hash}");
            });
        }
    }

    private static IEnumerable<ClrSegment> Ordered(ClrRuntime runtime) => runtime.Heap.Segments.OrderBy(s => s.Start);
}
