using System;
using System.Collections.Generic;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

/// <summary>A heap of a chosen size that has one of everything a heap can have.</summary>
/// <remarks>
/// --small MB, --large MB, --pinned MB, --native MB, --threads N. "collect" runs a full GC, "write" writes to all small objects from
/// then on, "written" tells how often.
/// </remarks>
internal static class Program
{
    private static readonly List<object> s_roots = new List<object>();
    private static readonly ManualResetEvent s_never = new ManualResetEvent(false);

    private static void Main(string[] words)
    {
        var options = new Options(words);
        s_roots.Add(Heap.Small(options.Number("--small", 10)));
        s_roots.Add(Heap.Large(options.Number("--large", 2)));
        s_roots.Add(Heap.Pinned(options.Number("--pinned", 1)));
        s_roots.Add(Zoo.Everything());
        s_roots.Add(Handles.Everything());
        Finalizable.Everything();
        Native(options.Number("--native", 0));
        Threads(options.Number("--threads", 2));
        GC.Collect();
        s_roots.Add(Heap.Small(1));
        Conversation.Hold(Answer);
        Finalizable.Release();
    }

    private static string? Answer(string word) => word switch
    {
        "collect" => Collect(),
        "write" => Heap.Write(s_roots[0]),
        "written" => Heap.Written.ToString(CultureInfo.InvariantCulture),
        _ => null,
    };

    private static string Collect()
    {
        GC.Collect();
        return "collected";
    }

    /// <summary>Half in blocks that malloc takes from its heap, half in one mapping; all of it written.</summary>
    private static void Native(int megabytes)
    {
        const int Block = 64 * 1024;
        for (long left = megabytes * 512L * 1024; left > 0; left -= Block)
        {
            Write(Marshal.AllocHGlobal(Block), Block);
        }
        if (megabytes > 0)
        {
            int half = megabytes * 512 * 1024;
            Write(Marshal.AllocHGlobal(half), half);
        }
    }

    private static unsafe void Write(IntPtr address, int size)
    {
        ulong* words = (ulong*)address;
        for (int i = 0; i < size / sizeof(ulong); i++)
        {
            words[i] = (ulong)i * 0x9E3779B97F4A7C15;
        }
    }

    /// <summary>Threads that wait some frames deep, each with statics of its own.</summary>
    private static void Threads(int count)
    {
        using var inPlace = new CountdownEvent(Math.Max(count, 1));
        for (int i = 0; i < count; i++)
        {
            int depth = i % 20;
            new Thread(() => ThreadStatics.Hold(depth, inPlace, s_never), 256 * 1024)
            {
                IsBackground = true,
                Name = "worker " + i,
            }.Start();
        }
        if (count > 0)
        {
            inPlace.Wait();
        }
    }
}

/// <summary>Statics of a thread, and frames that hold objects.</summary>
internal static class ThreadStatics
{
    [ThreadStatic] private static object? t_object;
    [ThreadStatic] private static long t_number;

    [MethodImpl(MethodImplOptions.NoInlining)]
    public static object Hold(int depth, CountdownEvent inPlace, WaitHandle never)
    {
        object local = new[] { depth, depth + 1 };
        if (depth > 0)
        {
            return new[] { Hold(depth - 1, inPlace, never), local };
        }
        t_object = Thread.CurrentThread.Name;
        t_number = Thread.CurrentThread.ManagedThreadId;
        inPlace.Signal();
        never.WaitOne();
        return new[] { t_object, t_number, local };
    }
}
