using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>
/// Reads what SOS's commands about objects and the runtime read, each under its name: of every type the first
/// object stands for all, as the walk over the heap has read the others.
/// </summary>
internal sealed class Replay(TargetDataReader reader, SosDac sos, ClrRuntime runtime)
{
    private const int MaxStack = 8 << 20; // bytes; ulimit -s of most systems
    private const int StackPointer = 0x98; // CONTEXT.Rsp of AMD64, winnt.h
    private const int MaxElements = 4;
    private const int MaxStringLength = 1024;
    private const int MaxInner = 16; // exceptions, one inside another

    private readonly Dictionary<ulong, ClrObject> _first = [];
    private readonly HashSet<ulong> _stackWords = [];
    private readonly List<ClrObject> _onStacks = [];

    public void Clear()
    {
        _first.Clear();
        _stackWords.Clear();
        _onStacks.Clear();
    }

    /// <summary>Notes what looks like an object on the stacks; the walk over the heap tells which are some.</summary>
    public void ScanStacks(MissingReads missing) => missing.Quietly(() =>
    {
        byte[] context = new byte[0x4d0]; // CONTEXT of AMD64
        ulong[] page = new ulong[512];
        foreach (ClrThread thread in runtime.Threads.Where(thread => thread.OSThreadId != 0))
        {
            if (!reader.GetThreadContext(thread.OSThreadId, 0, context))
                continue;

            ulong start = MemoryMarshal.Read<ulong>(context.AsSpan(StackPointer)) & ~7UL;
            for (ulong at = start; at < start + MaxStack; at = (at | 0xfff) + 1)
            {
                Span<ulong> words = page.AsSpan(0, (int)((0x1000 - (at & 0xfff)) / 8));
                if (reader.Read(at, MemoryMarshal.AsBytes(words)) < words.Length * 8)
                    break;
                foreach (ulong word in words)
                {
                    if (word != 0 && word % 8 == 0)
                        _stackWords.Add(word);
                }
            }
        }
    });

    /// <summary>Told of every object, in the heap's order.</summary>
    public void See(ClrObject item)
    {
        if (item.Type is not { } type || item.IsFree)
            return;

        _first.TryAdd(type.MethodTable, item);
        if (_stackWords.Contains(item.Address))
            _onStacks.Add(item);
    }

    /// <summary>Each command with its name.</summary>
    public IEnumerable<(string Command, Action Read)> Commands()
    {
        yield return ("eeheap", Heaps);
        yield return ("clrthreads", Threads);
        yield return ("dumpstackobjects", () => _onStacks.ForEach(Dump));
        yield return ("dumpobj", () => Each(_ => true, Dump));
        yield return ("dumpclass", Statics);
        yield return ("printexception", () => Each(item => item.IsException, item => Print(item.AsException())));
        yield return ("dumpasync", () => Each(IsStateMachine, Dump));
        yield return ("timerinfo", () => Each(item => Named(item, "System.Threading.TimerQueueTimer"), Dump));
        yield return ("dumpalc", LoadContexts);
        yield return ("gchandles", Handles);
        yield return ("finalizequeue", Finalizers);
        yield return ("syncblk", SyncBlocks);
        yield return ("threadpool", ThreadPool);
        yield return ("dumpdomain", Domains);
        yield return ("dumplog", StressLog);
    }

    private void Each(Func<ClrObject, bool> wanted, Action<ClrObject> read)
    {
        foreach (ClrObject item in _first.Values)
        {
            if (wanted(item))
                read(item);
        }
    }

    private static bool Named(ClrObject item, string name) => item.Type?.Name == name;

    private static bool IsStateMachine(ClrObject item) => item.Type?.Name?.Contains("AsyncStateMachineBox") == true;

    private void Dump(ClrObject item)
    {
        ClrType type = item.Type!;
        _ = type.Module?.Name;
        if (type.IsString)
        {
            _ = item.AsString(MaxStringLength);
        }
        else if (type.IsArray)
        {
            ClrArray array = item.AsArray();
            for (int i = 0; i < Math.Min(array.Length, MaxElements) && array.Rank == 1; i++)
            {
                if (type.ComponentType is { IsObjectReference: true })
                    _ = array.GetObjectValue(i).Type?.Name;
            }
        }

        foreach (ClrInstanceField field in type.Fields)
        {
            _ = field.Name;
            _ = field.Type?.Name;
            if (field.IsObjectReference)
                _ = field.ReadObject(item.Address, interior: false).Type?.Name;
        }
    }

    private static void Print(ClrException? exception)
    {
        for (int depth = 0; exception is not null && depth < MaxInner; depth++)
        {
            _ = exception.Message;
            foreach (ClrStackFrame frame in exception.StackTrace)
                _ = frame.Method?.Signature;
            exception = exception.Inner;
        }
    }

    private void Statics()
    {
        ClrThread[] threads = runtime.Threads.Where(thread => thread.IsAlive).ToArray();
        foreach (ClrType type in _first.Values.Select(item => item.Type!))
        {
            foreach (ClrStaticField field in type.StaticFields)
            {
                foreach (ClrAppDomain domain in runtime.AppDomains)
                    Value(field, field.GetAddress(domain));
            }

            foreach (ClrThreadStaticField field in type.ThreadStaticFields)
            {
                foreach (ClrThread thread in threads)
                    Value(field, field.GetAddress(thread));
            }
        }
    }

    private void Value(ClrField field, ulong address)
    {
        _ = field.Name;
        if (address == 0)
            return;
        if (field.IsObjectReference && reader.ReadPointer(address, out ulong value))
            _ = runtime.Heap.GetObjectType(value)?.Name;
        else
            reader.Read(address, new byte[Math.Max(1, field.Size)]);
    }

    private void Heaps()
    {
        foreach (ClrSubHeap heap in runtime.Heap.SubHeaps)
            _ = heap.GenerationTable.Length;
        _ = runtime.EnumerateClrNativeHeaps().Count();
    }

    private void Threads()
    {
        foreach (ClrThread thread in runtime.Threads)
        {
            sos.Thread(thread.Address, out _);
            Print(thread.CurrentException);
        }
    }

    private void LoadContexts()
    {
        Each(item => Named(item, "System.Runtime.Loader.DefaultAssemblyLoadContext"), Dump);
        foreach (ulong context in _first.Values.Select(item => item.Type!.AssemblyLoadContextAddress).Distinct())
        {
            if (context != 0 && runtime.Heap.GetObject(context) is { IsValid: true } item)
                Dump(item);
        }
    }

    private void Handles()
    {
        foreach (ClrHandle handle in runtime.EnumerateHandles())
        {
            _ = handle.Object.Type?.Name;
            _ = handle.Dependent.Type?.Name;
        }
    }

    private void Finalizers()
    {
        foreach (ClrObject item in runtime.Heap.EnumerateFinalizableObjects())
            _ = item.Type?.Name;
        foreach (ClrRoot root in runtime.Heap.EnumerateFinalizerRoots())
            _ = root.Object.Type?.Name;
    }

    private void SyncBlocks()
    {
        sos.SyncBlocks(Deadline.None);
        _ = runtime.Heap.EnumerateSyncBlocks().Count();
        _ = runtime.EnumerateSyncBlockCleanupData().Count();
    }

    private void ThreadPool()
    {
        sos.ThreadPool();
        if (runtime.ThreadPool is { } pool)
        {
            _ = pool.EnumerateLegacyWorkRequests().Count();
            _ = pool.EnumerateHillClimbingLog().Count();
        }
    }

    private void Domains()
    {
        foreach (ClrAppDomain domain in runtime.AppDomains)
        {
            _ = domain.Name;
            foreach (ClrModule module in domain.Modules)
                sos.Assembly(domain.Address, module.AssemblyAddress);
        }
    }

    private void StressLog()
    {
        if (runtime.StressLog is { } log)
            _ = log.EnumerateMessages().Count();
    }
}
