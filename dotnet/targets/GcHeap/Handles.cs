using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

/// <summary>Every kind of GC handle, and tables made of dependent ones.</summary>
internal static class Handles
{
    public static object Everything()
    {
        var held = new List<object>();
        var table = new ConditionalWeakTable<object, string>();
        for (int i = 0; i < 100; i++)
        {
            byte[] bytes = new byte[i + 1];
            object key = new object();
            held.Add(GCHandle.Alloc(bytes, GCHandleType.Pinned));
            held.Add(GCHandle.Alloc(new object(), GCHandleType.Normal));
            held.Add(GCHandle.Alloc(key, GCHandleType.Weak));
            held.Add(GCHandle.Alloc(key, GCHandleType.WeakTrackResurrection));
            held.Add(new WeakReference(key));
            held.Add(new WeakReference<byte[]>(bytes));
            held.Add(key);
            table.Add(key, "value of " + i);
        }
        held.Add(table);
        return held;
    }
}

/// <summary>Objects that wait for their finalizer: some alive, some dead behind one whose finalizer does not end.</summary>
internal sealed class Finalizable
{
    private static readonly List<Finalizable> s_alive = new List<Finalizable>();
    private static readonly System.Threading.ManualResetEvent s_blocked = new System.Threading.ManualResetEvent(false);
    private static readonly System.Threading.ManualResetEvent s_end = new System.Threading.ManualResetEvent(false);

    private readonly object _payload = new int[4];

    ~Finalizable()
    {
        GC.KeepAlive(_payload);
        s_blocked.Set();
        s_end.WaitOne();
    }

    /// <summary>Lets the finalizers end: at its end the runtime waits for the one that runs.</summary>
    public static void Release() => s_end.Set();

    public static void Everything()
    {
        for (int i = 0; i < 50; i++)
        {
            s_alive.Add(new Finalizable());
        }
        var suppressed = new Finalizable();
        GC.SuppressFinalize(suppressed);
        s_alive.Add(suppressed);
        Die();
        GC.Collect();
        s_blocked.WaitOne();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Die()
    {
        for (int i = 0; i < 50; i++)
        {
            _ = new Finalizable();
        }
    }
}
