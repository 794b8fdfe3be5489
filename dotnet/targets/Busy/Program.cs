using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

/// <summary>Everything a server has in hand at once: queued work, waits, timers, a lock that is wanted, exceptions in flight.</summary>
internal static class Program
{
    private static readonly ManualResetEvent s_never = new ManualResetEvent(false);
    private static readonly TaskCompletionSource<int> s_unanswered = new TaskCompletionSource<int>();
    private static readonly List<object> s_held = new List<object>();
    private static readonly object s_lock = new object();

    private static void Main(string[] words)
    {
        var options = new Options(words);
        Lock();
        Hold(InCatch);
        Hold(InNestedCatch);
        Hold(InFinally);
        if (options.Has("--filter"))
        {
            // The DAC is known to crash when it walks the stack roots of such a thread.
            Hold(InFilter);
        }
        Await();
        Timers();
        Pool();
        Conversation.Hold();
    }

    /// <summary>One thread owns the lock, two want it, one waits on it for a pulse.</summary>
    private static void Lock()
    {
        Hold(inPlace =>
        {
            lock (s_lock)
            {
                inPlace.Set();
                Monitor.Wait(s_lock);
            }
        });
        Hold(inPlace =>
        {
            lock (s_lock)
            {
                inPlace.Set();
                s_never.WaitOne();
            }
        });
        for (int i = 0; i < 2; i++)
        {
            var wants = new Thread(() => { lock (s_lock) { } }) { IsBackground = true };
            wants.Start();
            SpinWait.SpinUntil(() => (wants.ThreadState & ThreadState.WaitSleepJoin) != 0);
        }
        object thin = new object();
        s_held.Add(thin);
        Hold(inPlace =>
        {
            lock (thin)
            {
                inPlace.Set();
                s_never.WaitOne();
            }
        });
    }

    private static void InCatch(ManualResetEvent inPlace)
    {
        try
        {
            Throw(5);
        }
        catch (InvalidOperationException)
        {
            inPlace.Set();
            s_never.WaitOne();
        }
    }

    private static void InNestedCatch(ManualResetEvent inPlace)
    {
        try
        {
            Throw(2);
        }
        catch (InvalidOperationException outer)
        {
            try
            {
                throw new ApplicationException("inner", outer);
            }
            catch (ApplicationException)
            {
                inPlace.Set();
                s_never.WaitOne();
            }
        }
    }

    private static void InFinally(ManualResetEvent inPlace)
    {
        try
        {
            try
            {
                Throw(3);
            }
            finally
            {
                inPlace.Set();
                s_never.WaitOne();
            }
        }
        catch (InvalidOperationException)
        {
        }
    }

    private static void InFilter(ManualResetEvent inPlace)
    {
        try
        {
            Throw(4);
        }
        catch (InvalidOperationException) when (inPlace.Set() && s_never.WaitOne())
        {
        }
    }

    private static void Throw(int depth)
    {
        if (depth == 0)
        {
            throw new InvalidOperationException("in flight");
        }
        Throw(depth - 1);
    }

    private static void Await()
    {
        for (int i = 0; i < 20; i++)
        {
            s_held.Add(Outer(i));
        }
    }

    private static async Task<int> Outer(int number) => await Inner(number.ToString()) + number;

    private static async Task<int> Inner(string text)
    {
        await Task.Yield();
        int answer = await s_unanswered.Task.ConfigureAwait(false);
        return answer + text.Length;
    }

    private static void Timers()
    {
        for (int i = 0; i < 10; i++)
        {
            s_held.Add(new Timer(state => GC.KeepAlive(state), new[] { i }, 3_600_000 + i, 60_000));
        }
        s_held.Add(Task.Delay(TimeSpan.FromHours(1)));
    }

    /// <summary>Fills every worker with a wait, and leaves more work in the queue.</summary>
    private static void Pool()
    {
        ThreadPool.SetMinThreads(4, 4);
        ThreadPool.SetMaxThreads(4, 4);
        using var working = new CountdownEvent(4);
        for (int i = 0; i < 4; i++)
        {
            ThreadPool.QueueUserWorkItem(_ => { working.Signal(); s_never.WaitOne(); });
        }
        working.Wait();
        for (int i = 0; i < 30; i++)
        {
            ThreadPool.QueueUserWorkItem(state => GC.KeepAlive(state), "queued " + i);
        }
    }

    /// <summary>Starts a thread and returns when it has said that it is in place.</summary>
    private static void Hold(Action<ManualResetEvent> body)
    {
        var inPlace = new ManualResetEvent(false);
        new Thread(() => body(inPlace)) { IsBackground = true }.Start();
        inPlace.WaitOne();
    }
}
