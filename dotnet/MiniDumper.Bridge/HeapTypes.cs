using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// Finds the types of all objects of a running target. Objects are made and moved meanwhile, so a word is
/// taken for a type only where types can lie: handed a wrong one, the DAC can crash.
/// </summary>
internal sealed class HeapTypes(TargetDataReader reader, SosDac sos, ClrRuntime runtime, ModuleImages images)
{
    private const int ObjectsBetweenLooks = 4096;
    private const int WindowSize = 1 << 16;
    private const int MinObjectSize = 24; // header, type, one field (object.h, MIN_OBJECT_SIZE)
    private const ulong MarkBits = 7; // a GC at work marks in the type's pointer (gcinterface.h)

    /// <summary>
    /// Where a type names its module (methodtable.h, m_pLoaderModule up to .NET 8, m_pModule since), the same
    /// in 3.1 to 10 on 64 bits.
    /// </summary>
    private const ulong ModuleOffset = 0x18;

    private readonly Dictionary<ulong, (uint Base, uint Component)> _sizes = [];
    private readonly HashSet<ulong> _modules = [.. runtime.EnumerateModules().Select(module => module.Address)];
    private readonly byte[] _window = new byte[WindowSize];
    private ulong _windowStart;
    private int _windowLength;

    /// <summary>Number of objects seen.</summary>
    public long Objects { get; private set; }

    /// <summary>Tells each type once, until the deadline or where nothing makes sense any more.</summary>
    public void Find(Action<ulong> found, Deadline deadline)
    {
        MemoryRange[] heaps = LoaderHeaps.Of(runtime)
            .Where(heap => heap.Kind is NativeHeapKind.HighFrequencyHeap or NativeHeapKind.LowFrequencyHeap)
            .Select(heap => heap.MemoryRange)
            .OrderBy(range => range.Start)
            .ToArray();
        Dictionary<ulong, ulong> contexts = [];
        foreach (ClrThread thread in runtime.Threads)
            contexts[thread.AllocationContext.Start] = thread.AllocationContext.End;
        ulong text = runtime.Heap.StringType.MethodTable;
        _sizes[runtime.Heap.FreeType.MethodTable] = (MinObjectSize, 1); // of free space the DAC tells no size
        foreach (ClrSegment segment in runtime.Heap.Segments)
        {
            _windowLength = 0;
            ulong at = segment.Start;
            while (at < segment.End)
            {
                if (++Objects % ObjectsBetweenLooks == 0 && deadline.Passed)
                    return;
                if (contexts.TryGetValue(at, out ulong limit) && limit > at)
                    at = limit + MinObjectSize;
                ulong size = Size(at, text, heaps, found);
                if (size == 0)
                    break;
                at += size;
            }
        }
    }

    /// <summary>Bytes of the object at an address; 0 where there is none that makes sense.</summary>
    private ulong Size(ulong address, ulong text, MemoryRange[] heaps, Action<ulong> found)
    {
        if (!Look(address, out ReadOnlySpan<byte> head))
            return 0;

        ulong type = BinaryPrimitives.ReadUInt64LittleEndian(head) & ~MarkBits;
        if (!_sizes.TryGetValue(type, out (uint Base, uint Component) size))
        {
            if (!CanBeType(type, heaps) || !sos.MethodTable(type, out MethodTableData data))
                return 0;

            // The DAC leaves the zero at a string's end out.
            size = (data.BaseSize + (type == text ? data.ComponentSize : 0), data.ComponentSize);
            _sizes.Add(type, size);
            found(type);
        }

        ulong count = size.Component == 0 ? 0 : BinaryPrimitives.ReadUInt32LittleEndian(head[8..]);
        return Math.Max((size.Base + size.Component * count + 7) & ~7UL, MinObjectSize);
    }

    private bool CanBeType(ulong type, MemoryRange[] heaps)
    {
        (int low, int high) = (0, heaps.Length);
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = heaps[middle].Start <= type ? (middle + 1, high) : (low, middle);
        }

        // ClrMD lists no heaps of collectible assemblies before .NET 8: their types name a module all the same.
        return (low > 0 && type < heaps[low - 1].End)
            || images.Contains(type)
            || (reader.Read(type + ModuleOffset, out ulong module) && _modules.Contains(module));
    }

    /// <summary>The first words of an object, through a window that moves up.</summary>
    private bool Look(ulong address, out ReadOnlySpan<byte> head)
    {
        if (address < _windowStart || address + 16 > _windowStart + (uint)_windowLength)
        {
            _windowStart = address;
            _windowLength = reader.Read(address, _window);
        }

        int offset = (int)(address - _windowStart);
        bool there = offset + 16 <= _windowLength;
        head = there ? _window.AsSpan(offset, 16) : default;
        return there;
    }
}
