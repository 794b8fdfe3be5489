using System.Collections.Generic;
using System.Linq;

namespace MiniDumper.Guardian;

/// <summary>Events that hold their thread, told one at a time: the next when the parent has looked at the last.</summary>
internal sealed class Reports(Channel channel, Tracees tracees)
{
    private readonly Queue<(Tracee Tracee, string Line, bool IsEnd)> _waiting = [];
    private Tracee? _held;
    private bool _heldIsEnd;

    /// <summary>Whether the end of the process has been told, or waits for that.</summary>
    public bool HasEnd { get; private set; }

    /// <summary>Whether the parent has yet to look at that: threads on their way out wait for it.</summary>
    public bool AwaitsEnd { get; private set; }

    public void Add(Tracee tracee, string line) => Add(tracee, line, isEnd: false);

    public void AddEnd(Tracee tracee, int status)
    {
        HasEnd = AwaitsEnd = true;
        Add(tracee, $"exit {tracee.Tid} {status}", isEnd: true);
    }

    /// <summary>Another program has its own end.</summary>
    public void ForgetEnd() => HasEnd = false;

    /// <summary>
    /// Lets the thread of the last event run on, with the signal that it was about to take. One that came on its way
    /// out meanwhile goes on after the end has been told.
    /// </summary>
    public void Resume()
    {
        if (_held is { Stopped: true } held && (_heldIsEnd || held.Event != Libc.EventExit))
            held.Continue(Breakpoints.IsOurs(held) ? 0 : held.Pending);
        if (_heldIsEnd)
            FinishEnd();
        _held = null;
        TellNext();
    }

    private void Add(Tracee tracee, string line, bool isEnd)
    {
        tracee.Parked = true;
        _waiting.Enqueue((tracee, line, isEnd));
        TellNext();
    }

    private void TellNext()
    {
        while (_held is null && _waiting.TryDequeue(out (Tracee Tracee, string Line, bool IsEnd) next))
        {
            if (next.Tracee.Stopped)
            {
                (_held, _heldIsEnd) = (next.Tracee, next.IsEnd);
                channel.Write(next.Line);
            }
            else if (next.IsEnd)
            {
                FinishEnd(); // it was killed meanwhile
            }
        }
    }

    private void FinishEnd()
    {
        _heldIsEnd = AwaitsEnd = false;
        foreach (Tracee other in tracees.All.Where(each => each.Event == Libc.EventExit))
            other.Continue(0);
    }
}
