using System.Diagnostics;
using System.Globalization;
using System.Threading;

namespace MiniDumper.Guardian;

/// <summary>Time in which no exception and no debug output counts, as between two dumps. One a process, as its target is.</summary>
internal static class Rest
{
    private static long s_until;

    public static bool IsOn => Stopwatch.GetTimestamp() < Volatile.Read(ref s_until);

    public static void Begin(string milliseconds) =>
        Volatile.Write(ref s_until, Stopwatch.GetTimestamp() + (long.Parse(milliseconds, CultureInfo.InvariantCulture) * Stopwatch.Frequency / 1000));
}
