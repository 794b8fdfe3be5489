using System;
using System.Diagnostics;

namespace MiniDumper.Guardian;

/// <summary>
/// Whether the guardian looks for the next stop for a while before it sleeps. Where processors are idle that
/// saves the wake of one, which takes a virtual machine longer than all else at a stop; where none is, it takes the
/// target's. So both are tried now and then, and the faster of the two is kept.
/// </summary>
internal sealed class Patience
{
    private const int Block = 256; // stops that follow each other, between two decisions
    private const int Trial = 16; // blocks between two tries of what was the slower

    private static readonly long s_while = Stopwatch.Frequency / 10_000; // 100 us: a stop takes 70
    private static readonly long s_pause = Stopwatch.Frequency / 1000; // 1 ms: what comes so late came by itself

    private readonly long[] _took = [long.MaxValue, long.MaxValue]; // ticks of the last block, asleep and awake
    private long _last;
    private long _sum; // ticks between the stops of this block
    private int _blocks;
    private int _left = Block;
    private bool _awake;

    /// <summary>Counts a stop; the tick until which to look for the next.</summary>
    public long Count()
    {
        long now = Stopwatch.GetTimestamp();
        long since = now - _last;
        _last = now;
        if (since < s_pause)
        {
            _sum += since;
            if (--_left == 0)
                Decide();
        }

        return _awake ? now + s_while : 0;
    }

    private void Decide()
    {
        _took[_awake ? 1 : 0] = _sum;
        _sum = 0;
        _left = Block;
        bool faster = _took[1] < _took[0];
        _awake = Environment.ProcessorCount > 1 && (++_blocks % Trial == 1 ? !faster : faster);
    }
}
