using System;
using System.Collections.Generic;
using System.Numerics;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// Takes ranges by the hundred thousand, rounds them to pages, and gives them back sorted and
/// disjoint, each with all its reasons.
/// </summary>
internal sealed class RegionBuffer
{
    private const int PageShift = 12;
    private const ulong PageMask = (1UL << PageShift) - 1;

    /// <summary>Above every user space address (five page levels); beyond it are damaged pointers.</summary>
    private const ulong AddressLimit = 1UL << 56;

    /// <summary>Longer ranges are kept as ranges, shorter ones as single pages in the hash table.</summary>
    private const ulong MaxLoosePages = 16;

    /// <summary>The addresses [start, end), and what is noted of all of them.</summary>
    internal readonly record struct Span(ulong Start, ulong End, Reasons Reasons);

    private ulong[] _pages = new ulong[1 << 12];
    private Reasons[] _reasons = new Reasons[1 << 12];
    private int _count;
    private readonly List<Span> _spans = [];

    /// <summary>Adds the pages that [start, end) touches; an empty or impossible range, or one without a reason, adds none.</summary>
    public void Add(ulong start, ulong end, Reasons reasons)
    {
        if (start >= end || end > AddressLimit || start <= PageMask || reasons == Reasons.None)
            return;

        ulong first = start >> PageShift;
        ulong last = (end - 1) >> PageShift;
        if (last - first >= MaxLoosePages)
        {
            _spans.Add(new Span(first << PageShift, (last + 1) << PageShift, reasons));
            return;
        }

        for (ulong page = first; page <= last; page++)
            AddPage(page, reasons);
    }

    /// <summary>Adds everything that another buffer holds.</summary>
    public void Add(RegionBuffer other)
    {
        _spans.AddRange(other._spans);
        for (int i = 0; i < other._pages.Length; i++)
        {
            if (other._pages[i] != 0)
                AddPage(other._pages[i], other._reasons[i]);
        }
    }

    /// <summary>All that was noted, sorted and disjoint.</summary>
    public IReadOnlyList<Span> Noted() => Union(noted => noted);

    /// <summary>Packed columns: all starts (u64), all ends (u64), all reasons (u32).</summary>
    public byte[] Pack()
    {
        List<Span> regions = Union(Resolve);
        byte[] packed = new byte[regions.Count * 20];
        Span<ulong> addresses = MemoryMarshal.Cast<byte, ulong>(packed.AsSpan(0, regions.Count * 16));
        Span<uint> reasons = MemoryMarshal.Cast<byte, uint>(packed.AsSpan(regions.Count * 16));
        for (int i = 0; i < regions.Count; i++)
        {
            addresses[i] = regions[i].Start;
            addresses[regions.Count + i] = regions[i].End;
            reasons[i] = (uint)regions[i].Reasons;
        }

        return packed;
    }

    private void AddPage(ulong page, Reasons reasons)
    {
        int mask = _pages.Length - 1;
        // Fibonacci hashing: neighbours of a page land far from it.
        int slot = (int)((page * 0x9E3779B97F4A7C15UL) >> 32) & mask;
        while (_pages[slot] != page)
        {
            if (_pages[slot] == 0)
            {
                _pages[slot] = page;
                _reasons[slot] = reasons;
                if (++_count * 2 > _pages.Length)
                    Grow();
                return;
            }

            slot = (slot + 1) & mask;
        }

        _reasons[slot] |= reasons;
    }

    private void Grow()
    {
        (ulong[] pages, Reasons[] reasons) = (_pages, _reasons);
        _pages = new ulong[pages.Length * 4];
        _reasons = new Reasons[pages.Length * 4];
        _count = 0;
        for (int i = 0; i < pages.Length; i++)
        {
            if (pages[i] != 0)
                AddPage(pages[i], reasons[i]);
        }
    }

    /// <summary>Runs of loose pages with equal reasons, and the long ranges as they came.</summary>
    private List<Span> Collected()
    {
        ulong[] pages = new ulong[_count];
        Reasons[] reasons = new Reasons[_count];
        int count = 0;
        for (int i = 0; i < _pages.Length; i++)
        {
            if (_pages[i] != 0)
                (pages[count], reasons[count++]) = (_pages[i], _reasons[i]);
        }

        Array.Sort(pages, reasons);
        List<Span> spans = new(_spans);
        for (int i = 0; i < count;)
        {
            int first = i++;
            while (i < count && pages[i] == pages[i - 1] + 1 && reasons[i] == reasons[first])
                i++;
            spans.Add(new Span(pages[first] << PageShift, (pages[i - 1] + 1) << PageShift, reasons[first]));
        }

        return spans;
    }

    private List<Span> Union(Func<Reasons, Reasons> read)
    {
        List<Span> spans = Collected();
        (ulong At, bool Begins, Reasons Reasons)[] edges = new (ulong, bool, Reasons)[spans.Count * 2];
        for (int i = 0; i < spans.Count; i++)
        {
            edges[2 * i] = (spans[i].Start, true, spans[i].Reasons);
            edges[2 * i + 1] = (spans[i].End, false, spans[i].Reasons);
        }

        Array.Sort(edges, static (a, b) => a.At.CompareTo(b.At));
        List<Span> regions = [];
        int[] open = new int[32];
        Reasons current = Reasons.None;
        ulong previous = 0;
        foreach ((ulong at, bool begins, Reasons reasons) in edges)
        {
            if (at > previous)
                Append(regions, previous, at, read(current));
            previous = at;
            for (uint rest = (uint)reasons; rest != 0; rest &= rest - 1)
            {
                int bit = BitOperations.TrailingZeroCount(rest);
                open[bit] += begins ? 1 : -1;
                current = open[bit] > 0 ? current | (Reasons)(1u << bit) : current & ~(Reasons)(1u << bit);
            }
        }

        return regions;
    }

    private static void Append(List<Span> regions, ulong start, ulong end, Reasons reasons)
    {
        if (reasons == Reasons.None)
            return;

        if (regions.Count > 0 && regions[^1].End == start && regions[^1].Reasons == reasons)
            regions[^1] = regions[^1] with { End = end };
        else
            regions.Add(new Span(start, end, reasons));
    }

    /// <summary>Turns what was noted about a page into the reasons to dump it.</summary>
    public static Reasons Resolve(Reasons noted)
    {
        const Reasons heaps = Reasons.InLoaderHeap | Reasons.InJitCode | Reasons.InStubs;
        Reasons reasons = noted & (Reasons)0xFFFF;
        if ((noted & (Reasons.Rehearsed | Reasons.InGcHeap)) == Reasons.Rehearsed)
            reasons |= Reasons.DacRead;
        if ((noted & Reasons.Enumerated) == 0)
            return reasons;

        Reasons heap = (Reasons)((uint)(noted & heaps) >> 17);
        return reasons | (heap != Reasons.None ? heap : Reasons.RuntimeData);
    }
}
