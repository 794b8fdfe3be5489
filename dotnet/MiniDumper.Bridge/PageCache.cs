using System;
using System.Collections.Generic;

namespace MiniDumper.Bridge;

/// <summary>Pages read once in a pass: most reads are of eight bytes, and each would be a system call.</summary>
internal sealed class PageCache(MemorySource source)
{
    public const int PageSize = 0x1000;

    /// <summary>Reads longer than this go to the source at once.</summary>
    private const int MaxCachedRead = 4 * PageSize;

    /// <summary>The cache starts anew when it holds this many pages (4 MB).</summary>
    private const int MaxPages = 1 << 10;

    private MemorySource _source = source;
    private readonly Dictionary<ulong, byte[]> _pages = [];
    private readonly Stack<byte[]> _free = [];
    private ulong _lastPage;
    private byte[]? _last;

    /// <summary>Fills the buffer from an address; returns the bytes before the first that cannot be read.</summary>
    public int Read(ulong address, Span<byte> buffer)
    {
        if (buffer.Length > MaxCachedRead)
            return _source.Read(address, buffer);

        int done = 0;
        while (done < buffer.Length)
        {
            ulong at = address + (uint)done;
            int offset = (int)(at % PageSize);
            byte[]? page = Page(at - (uint)offset);
            if (page is null)
                return done + _source.Read(at, buffer[done..]);

            int size = Math.Min(buffer.Length - done, PageSize - offset);
            page.AsSpan(offset, size).CopyTo(buffer[done..]);
            done += size;
        }

        return done;
    }

    /// <summary>Reads from another source from now on, and closes the one before.</summary>
    public void SwitchTo(MemorySource source)
    {
        Clear();
        _source.Dispose();
        _source = source;
    }

    /// <summary>Forgets all pages and keeps their buffers.</summary>
    public void Clear()
    {
        foreach (byte[] page in _pages.Values)
            _free.Push(page);
        _pages.Clear();
        _last = null;
    }

    /// <summary>A page by its address; null where it is not whole, as at the edge of a dump's range.</summary>
    private byte[]? Page(ulong address)
    {
        if (_last is not null && _lastPage == address)
            return _last;

        if (!_pages.TryGetValue(address, out byte[]? page))
        {
            if (_pages.Count == MaxPages)
                Clear();
            page = _free.Count > 0 ? _free.Pop() : new byte[PageSize];
            if (_source.Read(address, page) != PageSize)
            {
                _free.Push(page);
                return null;
            }

            _pages.Add(address, page);
        }

        _lastPage = address;
        return _last = page;
    }
}
