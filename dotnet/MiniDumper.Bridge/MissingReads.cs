using System;
using System.Collections.Generic;

namespace MiniDumper.Bridge;

/// <summary>A read that found less than it asked for, and who asked.</summary>
internal readonly record struct MissingRead(ulong Address, int Size, string Command);

/// <summary>Notes every read of a dump that failed, under the command that is replayed.</summary>
internal sealed class MissingReads
{
    /// <summary>Below it no process has memory (vm.mmap_min_addr; Windows keeps as much): null, and fields of null.</summary>
    private const ulong FirstMapped = 0x10000;

    private readonly List<MissingRead> _reads = [];
    private bool _quiet;

    /// <summary>The SOS command whose reads come now.</summary>
    public string Command { get; set; } = "";

    public int Count => _reads.Count;

    public void Add(ulong address, int size)
    {
        if (!_quiet && address >= FirstMapped)
            _reads.Add(new MissingRead(address, size, Command));
    }

    /// <summary>Forgets all after so many.</summary>
    public void CutTo(int count) => _reads.RemoveRange(count, _reads.Count - count);

    /// <summary>Reads what may well not be there.</summary>
    public void Quietly(Action read)
    {
        _quiet = true;
        try
        {
            read();
        }
        finally
        {
            _quiet = false;
        }
    }

    /// <summary>Each address once, with the first command that asked for it, but for those to be left out.</summary>
    public List<MissingRead> Distinct(Predicate<MissingRead> leftOut)
    {
        HashSet<ulong> seen = [];
        return _reads.FindAll(read => !leftOut(read) && seen.Add(read.Address));
    }
}
