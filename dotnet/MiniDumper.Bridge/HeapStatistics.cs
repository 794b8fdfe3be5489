using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>Counts and sizes of all objects by type and generation, as ClrMD walks them.</summary>
internal static class HeapStatistics
{
    private const int ObjectsBetweenReports = 100_000;

    /// <summary>Rows of [type, module, generation, count, bytes].</summary>
    public static Answer Run(ClrHeap heap, SosDac sos, Action<string, long, long>? progress)
    {
        Dictionary<(ClrType, Generation), (long Count, ulong Size)> totals = [];
        ulong total = 0;
        foreach (ClrSegment segment in heap.Segments)
            total += segment.Length;

        (long objects, ulong done) = (0, 0);
        foreach (ClrSegment segment in heap.Segments)
        {
            foreach (ClrObject item in segment.EnumerateObjects())
            {
                if (++objects % ObjectsBetweenReports == 0)
                    progress?.Invoke("objects", (long)(done + item.Address - segment.Start), (long)total);
                if (item.Type is not ClrType type)
                    continue; // a thread was just making it
                ref (long Count, ulong Size) row = ref CollectionsMarshal.GetValueRefOrAddDefault(
                    totals, (type, segment.GetGeneration(item.Address)), out _);
                row = (row.Count + 1, row.Size + item.Size);
            }

            done += segment.Length;
        }

        return new Answer(Facts.Write(json =>
        {
            json.WriteBoolean("can_walk", sos.GcStructuresValid());
            json.WriteStartArray("rows");
            foreach (((ClrType type, Generation generation), (long count, ulong size)) in totals)
            {
                json.WriteStartArray();
                json.WriteStringValue(sos.NameOf(type));
                json.WriteStringValue(type.Module?.Name);
                json.WriteStringValue(NameOf(generation));
                json.WriteNumberValue(count);
                json.WriteNumberValue(size);
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }), []);
    }

    private static string NameOf(Generation generation) => generation switch
    {
        Generation.Generation0 => "gen0",
        Generation.Generation1 => "gen1",
        Generation.Generation2 => "gen2",
        Generation.Large => "loh",
        Generation.Pinned => "poh",
        Generation.Frozen => "frozen",
        _ => "unknown",
    };
}
