using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;

namespace MiniDumper.Guardian;

/// <summary>
/// All threads of one process, seized: if we die, the kernel lets them go (ptrace(2)). New ones are
/// seized by the kernel from birth.
/// </summary>
internal sealed class Tracees
{
    private const int StopDeadline = 5000; // ms; a thread in vfork(2) waits for its child's exec
    private const int ExecDeadline = 20; // ms
    private const int Look = 20; // ms between two looks at a thread that does not stop: it may be dead

    private readonly Dictionary<int, Tracee> _all = [];
    private readonly int _signals = Libc.ChildSignals();
    private readonly byte[] _drain = new byte[128 * 16]; // struct signalfd_siginfo has 128 bytes

    public int Pid { get; private set; }

    public IEnumerable<Tracee> All => _all.Values;

    /// <summary>Whether threads that are let run on stop at their next system call.</summary>
    public bool StopsAtCalls { get; set; }

    /// <summary>Can be read when a thread has stopped or ended.</summary>
    public int Signals => _signals;

    /// <summary>Seizes and stops every thread; the errno of what forbids it (ESRCH: it has ended), else 0.</summary>
    public int Seize(int pid, bool exits)
    {
        Pid = pid;
        nint options = Libc.OptionSysGood | Libc.OptionClone | Libc.OptionExec | (exits ? Libc.OptionExit : 0);
        while (true)
        {
            List<int> fresh = [.. Tids().Where(tid => !_all.ContainsKey(tid) && !IsDead(tid))];
            foreach (int tid in fresh)
            {
                if (Libc.Ptrace(Libc.Seize, tid, 0, options) == 0)
                {
                    _all[tid] = new Tracee(tid, this);
                    continue;
                }

                int errno = Libc.Errno; // now: to read a file sets it, too
                if (!IsDead(tid))
                    return errno;
            }

            StopAll();
            if (fresh.Count == 0)
                return _all.Count == 0 ? Libc.NoProcess : 0;
        }
    }

    /// <summary>A thread that has stopped or ended since the last look; false where there is none.</summary>
    public bool Next(out Tracee tracee, out int status)
    {
        int tid = Libc.WaitAny(out status);
        if (tid <= 0)
        {
            tracee = null!;
            return false;
        }

        bool stopped = (status & 0xff) == 0x7f; // WIFSTOPPED
        if (!_all.TryGetValue(tid, out tracee!))
            tracee = _all[tid] = new Tracee(tid, this);
        tracee.Status = stopped ? status : 0;
        if (!stopped)
            Remove(tracee);
        return true;
    }

    /// <summary>Forgets that the descriptor of <see cref="Signals"/> could be read.</summary>
    public void Drain() => Libc.Read(_signals, _drain);

    /// <summary>Waits until a thread that has been let run on stops by itself.</summary>
    public void AwaitStop(Tracee awaited)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!awaited.Stopped && _all.ContainsKey(awaited.Tid) && watch.ElapsedMilliseconds < StopDeadline)
        {
            if (Next(out _, out _))
                continue;
            Libc.Poll(_signals, _signals, Look);
            Drain();
        }
    }

    /// <summary>Stops every thread that runs; the status the process ended with, if it did meanwhile.</summary>
    public int? StopAll()
    {
        int? ended = null;
        HashSet<int> asked = [];
        Stopwatch watch = Stopwatch.StartNew();
        while (watch.ElapsedMilliseconds < StopDeadline)
        {
            foreach (Tracee running in _all.Values.Where(each => !each.Stopped && asked.Add(each.Tid)))
                _ = Libc.Ptrace(Libc.Interrupt, running.Tid);
            while (Next(out Tracee tracee, out int status))
            {
                if (!tracee.Stopped && tracee.Tid == Pid)
                    ended = status;
            }

            if (_all.Values.All(each => each.Stopped || (asked.Contains(each.Tid) && IsDead(each.Tid))))
                break;
            Libc.Poll(_signals, _signals, Look);
            Drain();
        }

        return ended;
    }

    /// <summary>Forgets all but the one thread that is left after execve(2).</summary>
    public void KeepLeader()
    {
        foreach (Tracee other in _all.Values.Where(each => each.Tid != Pid).ToList())
            Remove(other);
        _all[Pid].Disarm();
    }

    /// <summary>
    /// Whether a thread on its way out makes room for another program, which one of the others is about to run
    /// (execve(2) ends all threads but its own). It may take that one a moment to wait for their end.
    /// </summary>
    public bool AnyBecomesAnother(Tracee ending, List<Tracee> others)
    {
        if (Libc.IsProcessExit(ending.Tid))
            return false;
        Stopwatch watch = Stopwatch.StartNew();
        while (!others.Exists(each => IsInExec(each.Tid)))
        {
            if (watch.ElapsedMilliseconds > ExecDeadline)
                return false;
            Thread.Sleep(1);
        }

        return true;
    }

    /// <summary>The value of a row of /proc/PID/task/TID/status in hexadecimal digits; 0 where there is none.</summary>
    public ulong StatusMask(int tid, string name)
    {
        try
        {
            foreach (string line in File.ReadLines($"/proc/{Pid}/task/{tid}/status"))
            {
                if (line.StartsWith(name, StringComparison.Ordinal) && line[name.Length] == ':')
                    return Convert.ToUInt64(line[(name.Length + 1)..].Trim(), 16);
            }
        }
        catch (IOException)
        {
            // It is gone.
        }

        return 0;
    }

    private void Remove(Tracee tracee)
    {
        tracee.Disarm();
        _all.Remove(tracee.Tid);
    }

    private List<int> Tids()
    {
        try
        {
            return [.. Directory.EnumerateDirectories($"/proc/{Pid}/task").Select(path => int.Parse(Path.GetFileName(path.AsSpan())))];
        }
        catch (IOException)
        {
            return [];
        }
    }

    /// <summary>Whether a thread sleeps in execve(2) or execveat(2): proc_pid_syscall(5).</summary>
    private bool IsInExec(int tid)
    {
        try
        {
            return File.ReadAllText($"/proc/{Pid}/task/{tid}/syscall").Split(' ')[0] is "59" or "322"; // asm/unistd_64.h
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // it is gone, or the kernel does not tell
        }
    }

    /// <summary>Whether a thread is a zombie or gone.</summary>
    private bool IsDead(int tid)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{Pid}/task/{tid}/stat");
            return stat[stat.LastIndexOf(')') + 2] is 'Z' or 'X';
        }
        catch (IOException)
        {
            return true;
        }
    }
}
