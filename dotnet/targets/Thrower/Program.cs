using System;
using System.Collections.Generic;
using System.Threading;

/// <summary>Throws, catches, allocates and calculates all the time, and looks at every result.</summary>
internal static class Program
{
    private static string? s_wrong;
    private static long s_thrown;
    private static long s_rounds;

    private static void Main(string[] words)
    {
        byte[][] ballast = Ballast(new Options(words).Number("--mb", 0));
        new Thread(Throw) { IsBackground = true }.Start();
        new Thread(Allocate) { IsBackground = true }.Start();
        Conversation.Hold(word => word switch
        {
            "wrong" => Volatile.Read(ref s_wrong) ?? "nothing",
            "thrown" => Interlocked.Read(ref s_thrown).ToString(),
            "rounds" => Interlocked.Read(ref s_rounds).ToString(),
            _ => null,
        });
        GC.KeepAlive(ballast);
    }

    /// <summary>A GC heap of some size, every page of it touched.</summary>
    private static byte[][] Ballast(int megabytes)
    {
        byte[][] blocks = new byte[megabytes][];
        for (int i = 0; i < megabytes; i++)
        {
            blocks[i] = new byte[1 << 20];
            for (int at = 0; at < blocks[i].Length; at += 4096)
            {
                blocks[i][at] = 1;
            }
        }
        return blocks;
    }

    private static void Throw()
    {
        for (int i = 0; ; i++)
        {
            try
            {
                Deep(i % 10, i);
                s_wrong = "no exception";
            }
            catch (InvalidOperationException e) when (e.Message == "at " + i)
            {
                Interlocked.Increment(ref s_thrown);
            }
            catch (Exception e)
            {
                s_wrong = "another exception: " + e;
            }
            try
            {
                Null(i)!.ToString();
                s_wrong = "null has no fault";
            }
            catch (NullReferenceException)
            {
                Interlocked.Increment(ref s_thrown);
            }
            if (i % 50 == 0)
            {
                Thread.Sleep(1);
            }
        }
    }

    private static void Deep(int depth, int i)
    {
        if (depth == 0)
        {
            throw new InvalidOperationException("at " + i);
        }
        Deep(depth - 1, i);
    }

    private static object? Null(int i) => i < 0 ? "" : null;

    private static void Allocate()
    {
        var kept = new Queue<Dictionary<int, string>>();
        double expected = Roots();
        while (true)
        {
            for (int i = 0; i < 1000; i++)
            {
                kept.Enqueue(new Dictionary<int, string> { [i] = new string('x', i % 50) });
                if (kept.Count > 20_000)
                {
                    foreach (KeyValuePair<int, string> pair in kept.Dequeue())
                    {
                        if (pair.Value.Length != pair.Key % 50)
                        {
                            s_wrong = "a string of another length";
                        }
                    }
                }
            }
            if (Roots() != expected)
            {
                s_wrong = "another sum";
            }
            Interlocked.Increment(ref s_rounds);
        }
    }

    private static double Roots()
    {
        double sum = 0;
        for (int i = 0; i < 10_000; i++)
        {
            sum += Math.Sqrt(i);
        }
        return sum;
    }
}
