using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// Finds what the runtime allocated with <c>new</c>, such as the versions of a method that was compiled anew after
/// the rehearsal: whatever looks like a pointer from the runtime's memory into private memory is followed, and so on.
/// Of files it takes the bytes pointed at: signatures of methods can lie in a mapping beside the loaded image.
/// </summary>
internal sealed class Allocations
{
    /// <summary>What holds no allocations: the GC's memory, and what is searched or taken whole itself.</summary>
    private const Reasons Others = Reasons.InGcHeap | Reasons.InLoaderHeap | Reasons.InJitCode | Reasons.InStubs;

    /// <summary>
    /// Bytes that are searched where the size of an allocation is not known: a version of code takes 56 (codeversion.h).
    /// What comes behind can be another's, and lead anywhere.
    /// </summary>
    private const ulong SearchedSize = 64;

    /// <summary>Bytes that are taken then; a Thread, the longest of the usual ones, has 1 to 2 KB.</summary>
    private const ulong TakenSize = 2048;

    // struct malloc_chunk of glibc's malloc/malloc.c: two words, the second of them the size with three flags.
    private const ulong ChunkHeader = 16;
    private const ulong ChunkFlags = 7;
    private const ulong PreviousInUse = 1;
    private const ulong IsMapped = 2;

    /// <summary>Bytes of an allocation that is taken whole: longer ones are buffers, the GC's and those of the program.</summary>
    private const ulong MostOfOne = 1 << 20;

    /// <summary>
    /// Bytes that are searched at most, the nearest first: the runtime's own are some MB, but a static field can lead
    /// into the program's native memory.
    /// </summary>
    private const ulong MostOfAll = 16 << 20;

    private const int TableHeader = 32;
    private const uint MostEntries = 1 << 24;
    private const ulong TableEntry = 16;

    private const int PieceSize = 1 << 18;
    private const int GranuleShift = 20;
    private const int Granules = 1 << 16;

    private readonly TargetDataReader _reader;
    private readonly RegionBuffer _found;
    private readonly IReadOnlyList<RegionBuffer.Span> _noted;
    private readonly Surroundings _surroundings;
    private readonly AddressRanges _memory;
    private readonly bool[] _granules = new bool[Granules];
    private readonly HashSet<(ulong Address, ulong TableSize)> _seen = [];
    private readonly Queue<(ulong Address, ulong TableSize)> _rest = [];
    private readonly byte[] _piece = new byte[PieceSize];
    private ulong _taken;

    /// <param name="reader">The target's memory.</param>
    /// <param name="found">What was found so far; loader heaps are searched.</param>
    /// <param name="surroundings">What else is searched, and what is looked for.</param>
    public Allocations(TargetDataReader reader, RegionBuffer found, Surroundings surroundings)
    {
        (_reader, _found, _surroundings) = (reader, found, surroundings);
        _noted = found.Noted();
        _memory = new AddressRanges(Without(surroundings.Memory.All, _noted));
        foreach ((ulong start, ulong end) in _memory.All.Concat(surroundings.Files.All))
        {
            for (ulong granule = start >> GranuleShift; granule <= (end - 1) >> GranuleShift; granule++)
                _granules[granule % Granules] = true;
        }
    }

    /// <summary>Adds the allocations that what was found leads to.</summary>
    public void Follow()
    {
        foreach ((ulong start, ulong end) in _surroundings.Data.All)
            Search(start, end);
        foreach (RegionBuffer.Span span in _noted.Where(span => (span.Reasons & Reasons.InLoaderHeap) != 0))
            Search(span.Start, span.End);
        while (_taken < MostOfAll && _rest.TryDequeue(out (ulong Address, ulong TableSize) next))
            Take(next.Address, next.TableSize);
    }

    /// <summary>The memory less <see cref="Others"/>.</summary>
    private static List<(ulong Start, ulong End)> Without(
        IEnumerable<(ulong Start, ulong End)> memory, IReadOnlyList<RegionBuffer.Span> noted)
    {
        List<(ulong Start, ulong End)> rest = [];
        int next = 0;
        foreach ((ulong begin, ulong end) in memory)
        {
            ulong start = begin;
            while (next < noted.Count && noted[next].End <= start)
                next++;
            for (int i = next; i < noted.Count && noted[i].Start < end; i++)
            {
                if ((noted[i].Reasons & Others) == 0)
                    continue;
                if (noted[i].Start > start)
                    rest.Add((start, noted[i].Start));
                start = Math.Max(start, noted[i].End);
            }

            if (start < end)
                rest.Add((start, end));
        }

        return rest;
    }

    private void Search(ulong start, ulong stop)
    {
        for (int read = PieceSize; read == PieceSize; start += PieceSize - TableHeader)
        {
            read = _reader.Read(start, _piece.AsSpan(0, (int)Math.Min(PieceSize, stop - start)));
            ReadOnlySpan<nuint> words = MemoryMarshal.Cast<byte, nuint>(_piece.AsSpan(0, read));
            for (int i = 0; i < words.Length; i++)
            {
                ulong word = words[i];
                if (!_granules[(word >> GranuleShift) % Granules])
                    continue;
                if (_surroundings.Files.EndOf(word) is > 0 and ulong end)
                    _found.Add(word, Math.Min(word + SearchedSize, end), Reasons.DacRead);
                if (_memory.Contains(word) && TableSize(words[(i + 1)..]) is ulong size && _seen.Add((word, size)))
                    _rest.Enqueue((word, size));
            }
        }
    }

    /// <summary>The bytes of a hash table of the runtime by what follows the pointer to it; 0 where that is none.</summary>
    /// <remarks>SHash of shash.h: its size, entries, entries with those removed, and three quarters of its size.</remarks>
    private static ulong TableSize(ReadOnlySpan<nuint> following)
    {
        ReadOnlySpan<uint> counts = MemoryMarshal.Cast<nuint, uint>(following);
        bool isTable = counts.Length >= 4 && counts[0] <= MostEntries && counts[3] == counts[0] * 3 / 4
            && counts[1] <= counts[2] && counts[2] <= counts[3];
        return isTable ? counts[0] * TableEntry : 0;
    }

    private void Take(ulong address, ulong tableSize)
    {
        ulong size = Math.Max(SizeOf(address), tableSize);
        ulong rest = _memory.EndOf(address) - address;
        _found.Add(address, address + Math.Min(size != 0 ? size : TakenSize, rest), Reasons.RuntimeData);
        ulong searched = Math.Min(size != 0 ? size : SearchedSize, rest);
        _taken += searched;
        Search(address, address + searched);
    }

    /// <summary>The bytes of an allocation of glibc; 0 where there is none.</summary>
    private ulong SizeOf(ulong address)
    {
        ulong chunk = address - ChunkHeader;
        if (!ReadChunk(chunk, out ulong size, out ulong flags))
            return 0;

        bool known = (flags & IsMapped) != 0
            ? (chunk | size) % PageCache.PageSize == 0
            : IsAfterAnother(chunk, flags) && ReadChunk(chunk + size, out _, out flags) && (flags & PreviousInUse) != 0;
        return known && size <= MostOfOne ? size - ChunkHeader : 0;
    }

    /// <summary>Whether the chunk before is in use, or free and as long as this one says.</summary>
    private bool IsAfterAnother(ulong chunk, ulong flags) =>
        (flags & PreviousInUse) != 0
        || (_reader.ReadPointer(chunk, out ulong before) && ReadChunk(chunk - before, out ulong size, out _) && size == before);

    private bool ReadChunk(ulong chunk, out ulong size, out ulong flags)
    {
        size = flags = 0;
        ulong end = _memory.EndOf(chunk);
        if (end == 0 || chunk % ChunkHeader != 0 || !_reader.ReadPointer(chunk + ChunkHeader / 2, out ulong word))
            return false;

        (size, flags) = (word & ~ChunkFlags, word & ChunkFlags);
        return size % ChunkHeader == 0 && size >= 2 * ChunkHeader && size <= end - chunk;
    }
}
