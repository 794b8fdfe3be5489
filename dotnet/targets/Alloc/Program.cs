using System;
using System.Collections.Generic;
using System.Threading;

/// <summary>Allocates as fast as it can, so that the GC runs all the time.</summary>
internal static class Program
{
    private static long s_rounds;

    private static void Main(string[] words)
    {
        int threads = new Options(words).Number("--threads", 1);
        for (int i = 0; i < threads; i++)
        {
            new Thread(Allocate) { IsBackground = true }.Start();
        }
        Conversation.Hold(word => word switch
        {
            "collections" => GC.CollectionCount(0).ToString(),
            "rounds" => Interlocked.Read(ref s_rounds).ToString(),
            _ => null,
        });
    }

    /// <summary>Some of what is made lives for a while, so that every generation is collected.</summary>
    private static void Allocate()
    {
        var kept = new Queue<object>();
        while (true)
        {
            for (int i = 0; i < 1000; i++)
            {
                kept.Enqueue(new Dictionary<int, string> { [i] = new string('x', i % 50) });
                if (kept.Count > 20_000)
                {
                    kept.Dequeue();
                }
            }
            GC.KeepAlive(new byte[100_000]);
            Interlocked.Increment(ref s_rounds);
        }
    }
}
