using System;
using System.Threading;

/// <summary>Threads are born and die, 1,000 a second (as far as the machine follows), and allocate.</summary>
internal static class Program
{
    private static int s_born;
    private static int s_died;

    private static void Main(string[] words)
    {
        int perSecond = new Options(words).Number("--rate", 1000);
        new Thread(() => Breed(perSecond / 100)) { IsBackground = true }.Start();
        Conversation.Hold(word => word switch
        {
            "born" => Volatile.Read(ref s_born).ToString(),
            "died" => Volatile.Read(ref s_died).ToString(),
            _ => null,
        });
    }

    /// <summary>A litter every 10 ms; the next waits for the last, so that a slow machine is not flooded.</summary>
    private static void Breed(int litter)
    {
        while (true)
        {
            using var alive = new CountdownEvent(litter);
            for (int i = 0; i < litter; i++)
            {
                new Thread(() => Live(alive), 128 * 1024) { IsBackground = true }.Start();
            }
            Interlocked.Add(ref s_born, litter);
            Thread.Sleep(10);
            alive.Wait();
        }
    }

    private static void Live(CountdownEvent alive)
    {
        object[] life = new object[100];
        for (int i = 0; i < life.Length; i++)
        {
            life[i] = new int[i];
        }
        GC.KeepAlive(life);
        Interlocked.Increment(ref s_died);
        alive.Signal();
    }
}
