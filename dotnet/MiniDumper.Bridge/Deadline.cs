using System.Diagnostics;

namespace MiniDumper.Bridge;

/// <summary>A moment after which work that can be left out is left out.</summary>
internal readonly struct Deadline
{
    private readonly long _ticks;

    private Deadline(long ticks) => _ticks = ticks;

    /// <summary>Never passes.</summary>
    public static Deadline None => new(long.MaxValue);

    /// <summary>Whether the moment has come.</summary>
    public bool Passed => Stopwatch.GetTimestamp() >= _ticks;

    /// <summary>So many seconds from now.</summary>
    public static Deadline After(double seconds) =>
        new(Stopwatch.GetTimestamp() + (long)(seconds * Stopwatch.Frequency));
}
