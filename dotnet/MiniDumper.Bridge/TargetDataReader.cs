using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>Every read of the DAC and of ClrMD: through a cache that lives for one pass, and recorded.</summary>
internal sealed class TargetDataReader : IDataReader
{
    private readonly PageCache _cache;
    private readonly Dictionary<uint, byte[]> _contexts = [];
    private readonly ModuleInfo[] _modules;
    private RegionBuffer? _recorder;
    private Reasons _reasons;

    public TargetDataReader(MemorySource source, int processId, IEnumerable<ModuleInfo> modules)
    {
        _cache = new PageCache(source);
        _modules = modules.ToArray();
        ProcessId = processId;
    }

    /// <summary>Where failed reads are noted; null where nobody wants to know.</summary>
    public MissingReads? Missing { get; set; }

    public string DisplayName => $"process {ProcessId}";

    public bool IsThreadSafe => false;

    // The worker runs on the target's system, and on its processor.
    public OSPlatform TargetPlatform => OperatingSystem.IsWindows() ? OSPlatform.Windows : OSPlatform.Linux;

    public Architecture Architecture => RuntimeInformation.ProcessArchitecture;

    public int ProcessId { get; }

    public int PointerSize => nint.Size;

    /// <summary>Gives every thread its registers: thread id to CONTEXT.</summary>
    public void SetContexts(IEnumerable<KeyValuePair<uint, byte[]>> contexts)
    {
        _contexts.Clear();
        foreach ((uint id, byte[] context) in contexts)
            _contexts[id] = context;
    }

    /// <summary>Notes every read from now on; null ends it.</summary>
    public void RecordTo(RegionBuffer? recorder, Reasons reasons)
    {
        _recorder = recorder;
        _reasons = reasons;
    }

    /// <summary>Notes a range without reading it.</summary>
    public void Record(ulong address, ulong size) => _recorder?.Add(address, address + size, _reasons);

    /// <summary>Reads from another copy of the same address space from now on.</summary>
    public void SwitchTo(MemorySource source) => _cache.SwitchTo(source);

    public IEnumerable<ModuleInfo> EnumerateModules() => _modules;

    public bool GetThreadContext(uint threadID, uint contextFlags, Span<byte> context)
    {
        if (!_contexts.TryGetValue(threadID, out byte[]? known))
            return false;

        known.AsSpan(0, Math.Min(known.Length, context.Length)).CopyTo(context);
        return true;
    }

    public int Read(ulong address, Span<byte> buffer)
    {
        int done = _cache.Read(address, buffer);
        if (done > 0)
            _recorder?.Add(address, address + (uint)done, _reasons);
        // ClrMD reads ahead in large pieces, beyond the end of a segment too.
        if (done == 0 || (done < buffer.Length && buffer.Length <= PageCache.PageSize))
            Missing?.Add(address, buffer.Length);
        return done;
    }

    public unsafe bool Read<T>(ulong address, out T value)
        where T : unmanaged
    {
        T read = default;
        bool whole = Read(address, new Span<byte>(&read, sizeof(T))) == sizeof(T);
        value = whole ? read : default;
        return whole;
    }

    public T Read<T>(ulong address)
        where T : unmanaged
    {
        Read(address, out T value);
        return value;
    }

    public bool ReadPointer(ulong address, out ulong value)
    {
        bool whole = Read(address, out nuint read);
        value = read;
        return whole;
    }

    public ulong ReadPointer(ulong address)
    {
        ReadPointer(address, out ulong value);
        return value;
    }

    /// <summary>Forgets all bytes: the target has run, or runs.</summary>
    public void FlushCachedData() => _cache.Clear();
}
