using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

namespace MiniDumper.Bridge;

/// <summary>Disjoint ranges [start, end), found by an address in them.</summary>
internal sealed class AddressRanges
{
    private readonly ulong[] _starts;
    private readonly ulong[] _ends;

    public AddressRanges(IEnumerable<(ulong Start, ulong End)> ranges)
    {
        (ulong Start, ulong End)[] sorted = [.. ranges.Order()];
        _starts = [.. sorted.Select(range => range.Start)];
        _ends = [.. sorted.Select(range => range.End)];
    }

    /// <summary>All of them, sorted.</summary>
    public IEnumerable<(ulong Start, ulong End)> All => _starts.Zip(_ends);

    /// <summary>The ranges of rows [start, end].</summary>
    public static AddressRanges Parse(JsonElement rows) =>
        new(rows.EnumerateArray().Select(row => (row[0].GetUInt64(), row[1].GetUInt64())));

    /// <summary>The end of the range that an address lies in; 0 where it lies in none.</summary>
    public ulong EndOf(ulong address)
    {
        int row = Array.BinarySearch(_starts, address);
        row = row >= 0 ? row : ~row - 1;
        return row >= 0 && address < _ends[row] ? _ends[row] : 0;
    }

    public bool Contains(ulong address) => EndOf(address) != 0;
}

/// <summary>Where a process has what the runtime's pointers lead to.</summary>
/// <param name="Data">The runtime's data, where such pointers begin.</param>
/// <param name="Memory">Private memory, which allocations lie in.</param>
/// <param name="Files">What is mapped of files but code.</param>
internal sealed record Surroundings(AddressRanges Data, AddressRanges Memory, AddressRanges Files)
{
    public static Surroundings Parse(JsonElement root) => new(
        AddressRanges.Parse(root.GetProperty("data")),
        AddressRanges.Parse(root.GetProperty("memory")),
        AddressRanges.Parse(root.GetProperty("files")));
}
