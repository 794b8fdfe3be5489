using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// Names what a stopped target's CLR side needs. Nothing here grows with the number of objects, nor
/// from .NET 7 on with that of types; what a longer walk reads comes from the rehearsal.
/// </summary>
internal sealed class Collector(
    TargetDataReader reader,
    SosDac sos,
    StackWalk stacks,
    ClrRuntime runtime,
    RegionEnumerator enumerator,
    HashSet<string> skip)
{
    /// <summary>What a heap's first object has before it: its header (object.h, sizeof(ObjHeader)).</summary>
    private static readonly ulong s_objectHeader = (ulong)nint.Size;

    private const int MaxNestedExceptions = 64;

    /// <summary>Seconds; there can be a hundred thousand of them.</summary>
    private const double SyncBlocksBudget = 0.005;

    /// <summary>Seconds; enough for some thousand of them.</summary>
    private const double LargeObjectsBudget = 0.005;

    private readonly List<string> _warnings = [];

    /// <summary>The last rehearsal's pages, with <see cref="Reasons.Rehearsed"/>.</summary>
    public RegionBuffer? Rehearsed { get; set; }

    /// <summary>
    /// From .NET 7 on the DAC names the heaps of the loader and of code whole. Before, the same request is a
    /// walk of all types: that belongs to the rehearsal, and here the heaps are taken as ClrMD lists them.
    /// </summary>
    private bool HasWholeHeaps => runtime.ClrInfo.Version.Major is >= 7 or 0;

    /// <param name="minimal">Leaves the heap out.</param>
    /// <param name="committed">Takes all committed memory of the GC instead of what is in use.</param>
    /// <param name="thrown">An exception that is about to be thrown, and belongs to no thread yet; 0 for none.</param>
    /// <param name="surroundings">Where the runtime's own memory is.</param>
    public Answer Collect(
        bool minimal,
        bool committed,
        ulong thrown,
        Surroundings surroundings) => Recorded(found =>
    {
        Enumerate(minimal || !HasWholeHeaps ? EnumerationMode.Mini : EnumerationMode.WholeHeaps, found);
        bool handles = !minimal && CollectHeaps(found, committed);
        int modules = CollectModules(found, minimal);
        int frames = skip.Contains("stacks") ? 0 : CollectThreads();
        if (thrown != 0)
            Soft("the exception", () => Throws.Read(runtime.Heap.GetObject(thrown).AsException()));
        if (!minimal)
        {
            Soft("handles and sync blocks", () => CollectRoots(handles));
            // Of the runtime itself up to .NET 5; from .NET 6 on the pool is made of objects.
            sos.ThreadPool();
            if (Rehearsed is not null)
                found.Add(Rehearsed);
            reader.RecordTo(null, Reasons.None);
            new Allocations(reader, found, surroundings).Follow();
        }

        return Describe(minimal, modules, frames);
    });

    /// <summary>
    /// Does for nothing what can be done while the target runs, so that inside the stop all code is compiled.
    /// The DAC's own walks are left out: on torn stacks they crash, and on torn lists they go round for ever.
    /// </summary>
    public Answer WarmUp() => Recorded(found =>
    {
        CollectHeaps(found, committed: true);
        int modules = CollectModules(found, minimal: false);
        return Describe(minimal: false, modules, frames: 0);
    });

    private Answer Recorded(Func<RegionBuffer, string> collect)
    {
        reader.FlushCachedData();
        runtime.FlushCachedData();
        _warnings.Clear();
        RegionBuffer found = new();
        reader.RecordTo(found, Reasons.DacRead);
        try
        {
            return new Answer(collect(found), found.Pack());
        }
        finally
        {
            reader.RecordTo(null, Reasons.None);
        }
    }

    /// <summary>Does what can meet a structure that a thread was just changing; its loss is a warning.</summary>
    private void Soft(string what, Action step)
    {
        try
        {
            step();
        }
        catch (Exception error) when (error is not OutOfMemoryException)
        {
            _warnings.Add($"{what}: {error.Message}");
        }
    }

    private void Enumerate(EnumerationMode mode, RegionBuffer found)
    {
        int result = enumerator.Enumerate(mode, found);
        if (result < 0)
            _warnings.Add($"the DAC's enumeration ended with 0x{result:x8} after {enumerator.Count} ranges");
    }

    /// <summary>The GC's heaps and the loader's; whether the handle tables were among them, as from .NET 8 on.</summary>
    private bool CollectHeaps(RegionBuffer found, bool committed)
    {
        ClrHeap heap = runtime.Heap;
        foreach (ClrSubHeap subHeap in heap.SubHeaps)
        {
            Add(found, subHeap.FinalizerQueueObjects, Reasons.GcBookkeeping);
            Add(found, subHeap.FinalizerQueueRoots, Reasons.GcBookkeeping);
            Add(found, subHeap.InternalRootArray, Reasons.GcBookkeeping);
            if (subHeap.HasRegions)
                found.Add(subHeap.LowestAddress, subHeap.HighestAddress, Reasons.InGcHeap);
        }

        foreach (ClrSegment segment in heap.Segments)
        {
            Add(found, segment.ReservedMemory, Reasons.InGcHeap);
            if (segment.Length > 0)
                found.Add(segment.Start - s_objectHeader, segment.End, Reasons.GcHeap);
            if (committed)
                Add(found, segment.CommittedMemory, Reasons.GcHeap);
        }

        Reasons whole = HasWholeHeaps ? Reasons.None : Reasons.Enumerated;
        foreach (ClrNativeHeapInfo native in LoaderHeaps.Of(runtime))
            Add(found, native.MemoryRange, ReasonOf(native.Kind, whole));
        foreach (MemoryRange range in sos.GcBookkeeping())
            Add(found, range, Reasons.GcBookkeeping);
        IReadOnlyList<MemoryRange> handles = sos.HandleTables();
        foreach (MemoryRange range in handles)
            Add(found, range, Reasons.HandleTable);
        return handles.Count > 0;
    }

    /// <summary>Metadata and header of every module; of those without a file, all there is.</summary>
    private int CollectModules(RegionBuffer found, bool minimal)
    {
        int count = 0;
        foreach (ClrModule module in runtime.EnumerateModules())
        {
            count++;
            ImageData image = sos.Image(module.Address);
            found.Add(module.ImageBase, module.ImageBase + 1, Reasons.ModuleHeader);
            if (minimal)
                continue;

            found.Add(module.MetadataAddress, module.MetadataAddress + module.MetadataLength, Reasons.Metadata);
            if (image.IsInMemory != 0 || image.IsDynamic != 0)
            {
                found.Add(image.Address, image.Address + image.Size, Reasons.Metadata);
                found.Add(image.PdbAddress, image.PdbAddress + image.PdbSize, Reasons.Metadata);
            }
        }

        return count;
    }

    /// <summary>Frames, names, variables and exceptions of every thread; the number of frames.</summary>
    private int CollectThreads()
    {
        int frames = 0;
        stacks.Reset();
        foreach (ClrThread thread in runtime.Threads.Where(thread => thread.OSThreadId != 0))
        {
            frames += stacks.Walk(thread.OSThreadId);
            Soft($"exceptions of thread {thread.OSThreadId}", () => CollectExceptions(thread));
        }

        return frames;
    }

    private void CollectExceptions(ClrThread thread)
    {
        Throws.Read(thread.CurrentException);
        if (!sos.Thread(thread.Address, out ThreadData data))
            return;

        ulong record = data.FirstNestedException;
        for (int depth = 0; record != 0 && depth < MaxNestedExceptions; depth++)
        {
            if (!sos.NestedException(record, out ulong exception, out record))
                return;
            Throws.Read(runtime.Heap.GetObject(exception).AsException());
        }
    }

    /// <summary>
    /// What the GC's own structures lead to. Sync blocks are cut short: the rehearsal has read them all, and
    /// this is for those that are new since.
    /// </summary>
    private void CollectRoots(bool handles)
    {
        sos.SyncBlocks(Deadline.After(SyncBlocksBudget));
        if (!handles)
            _ = runtime.EnumerateHandles().Count();
    }

    private string Describe(bool minimal, int modules, int frames) => Facts.Write(json =>
    {
        if (!minimal)
            DescribeHeap(json, runtime.Heap);
        json.WriteNumber("modules", modules);
        json.WriteNumber("threads", runtime.Threads.Length);
        json.WriteNumber("frames", frames);
        json.WriteStartArray("warnings");
        foreach (string warning in _warnings)
            json.WriteStringValue(warning);
        json.WriteEndArray();
    });

    private void DescribeHeap(Utf8JsonWriter json, ClrHeap heap)
    {
        json.WriteBoolean("can_walk", sos.GcStructuresValid() && !IsMakingLargeObject(heap));
        json.WriteBoolean("server_gc", heap.IsServer);
        json.WriteBoolean("gc_regions", heap.SubHeaps.Any(subHeap => subHeap.HasRegions));
        json.WriteNumber("gc_heaps", heap.SubHeaps.Length);
        json.WriteNumber("gc_segments", heap.Segments.Length);
        json.WriteNumber("gc_bytes", heap.Segments.Aggregate(0UL, (sum, segment) => sum + segment.Length));
    }

    /// <summary>
    /// Whether a thread was just making a large object: it belongs to the heap before it has a type, all the
    /// time that its memory is cleared, and no reader finds what lies behind it. Small ones are made in memory
    /// that readers know to leave out.
    /// </summary>
    private static bool IsMakingLargeObject(ClrHeap heap)
    {
        Deadline deadline = Deadline.After(LargeObjectsBudget);
        return heap.Segments
            .Where(segment => segment.Kind is GCSegmentKind.Large or GCSegmentKind.Pinned)
            .OrderBy(segment => segment.Kind)
            .SelectMany(segment => segment.EnumerateObjects())
            .TakeWhile(_ => !deadline.Passed)
            .Any(item => item.Type is null);
    }

    private static void Add(RegionBuffer found, MemoryRange range, Reasons reasons) =>
        found.Add(range.Start, range.End, reasons);

    private static Reasons ReasonOf(NativeHeapKind kind, Reasons whole) => kind switch
    {
        NativeHeapKind.LowFrequencyHeap or NativeHeapKind.HighFrequencyHeap => whole | Reasons.InLoaderHeap,
        NativeHeapKind.LoaderCodeHeap or NativeHeapKind.HostCodeHeap => whole | Reasons.InJitCode,
        NativeHeapKind.Unknown => Reasons.None,
        _ => whole | Reasons.InStubs,
    };
}
