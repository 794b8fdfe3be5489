using System;
using System.Diagnostics;
using System.Globalization;
using System.Threading;

/// <summary>Measures from inside how long the process did not run: the longest gap of a loop that reads the clock.</summary>
internal static class PauseClock
{
    private static readonly AutoResetEvent s_ticking = new AutoResetEvent(false);
    private static Thread? s_loop;
    private static volatile bool s_running;
    private static long s_longest;

    /// <summary>Starts the loop; it holds one processor until <see cref="Stop"/>.</summary>
    public static string Start()
    {
        s_running = true;
        s_loop = new Thread(Loop) { IsBackground = true };
        s_loop.Start();
        s_ticking.WaitOne();
        return "clock";
    }

    /// <summary>Ends the loop; the longest gap in milliseconds.</summary>
    public static string Stop()
    {
        s_running = false;
        s_loop?.Join();
        return (s_longest * 1000.0 / Stopwatch.Frequency).ToString("F3", CultureInfo.InvariantCulture);
    }

    private static void Loop()
    {
        long longest = 0;
        long last = Stopwatch.GetTimestamp(); // before anybody goes on: a pause may come at once
        s_ticking.Set();
        while (s_running)
        {
            long now = Stopwatch.GetTimestamp();
            longest = Math.Max(longest, now - last);
            last = now;
        }
        s_longest = longest;
    }
}
