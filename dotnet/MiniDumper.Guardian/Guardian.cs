using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.Linq;

namespace MiniDumper.Guardian;

/// <summary>
/// Watches one process, and holds it while the parent takes a dump.
/// </summary>
/// <remarks>
/// Commands: <c>seize PID EXITS CRASHES THREADS INTERRUPTS</c> (the last: Ctrl+C at the
/// terminal is not for the target), <c>breakpoints KIND:ADDRESS…</c> (9: exit(3), 5: debug output, else where exceptions are thrown), <c>filter SHOW PATTERN…</c>
/// (+ or - and a text), <c>output PATTERN…</c> (the debug output that counts), <c>debugged</c> (the target has a debugger), <c>calls</c> (its system calls tell when its runtime begins), <c>begin</c> (it goes on from there), <c>rule METHODTABLE VERDICT OFFSET OFFSET NAME</c> (those of its message and of the exception inside it), <c>rest MILLISECONDS</c> (what comes until then does not count), <c>stop</c>, <c>release</c>, <c>resume</c>, <c>detach</c>.
/// Each but output, debugged, calls, begin, rule, rest and resume is answered with <c>ok</c> or <c>failed</c>, its name, and then the errno of a failure (<c>filter</c> with the
/// errno of what keeps types from being dismissed in the kernel, or 0, <c>detach</c> with the number of exceptions); <c>stop</c> gives a line
/// <c>thread TID SIGNAL REGISTERS FLOATING EXTENDED SIGINFO</c> for each thread before.
/// Events, of which the first six hold their thread until <c>resume</c>, one at a time:
/// <c>exception TID OBJECT KIND NAME MESSAGE</c>, <c>signal TID NUMBER</c>, <c>exit TID STATUS</c>, <c>exec TID</c>, <c>stage TID</c> (of its beginning; by system calls until <c>begin</c>), <c>output TID TEXT</c>;
/// <c>type TID METHODTABLE OBJECT</c> asks for a rule, <c>seen TID NAME MESSAGE…</c> (and of those inside it), <c>said TID TEXT</c> and <c>began TID</c>, <c>gone TID</c>,
/// <c>blind TID ERRNO</c> (nothing can be watched in a new thread) and <c>ended STATUS</c> just tell.
/// </remarks>
internal sealed class Guardian(Channel channel, Tracees tracees) : IDisposable
{
    /// <summary>Signals that end a process with a core where nobody catches them: signal(7).</summary>
    private const ulong Crashes = 1UL << 3 | 1UL << 4 | 1UL << 5 | 1UL << 6 | 1UL << 7 | 1UL << 10 | 1UL << 30;

    private static readonly int[] s_registerSets = [1, 2, 0x202]; // NT_PRSTATUS, NT_FPREGSET, NT_X86_XSTATE: linux/elf.h

    private readonly Tracees _tracees = tracees;
    private readonly Reports _reports = new(channel, tracees);
    private readonly Exceptions _exceptions = new(channel);
    private readonly Faults _faults = new();
    private readonly Output _output = new();
    private readonly Patience _patience = new();
    private bool _debugged;
    private bool _watchesCrashes;
    private bool _tellsThreads;
    private bool _keepsInterrupts;
    private bool _seized;

    /// <summary>Serves until the parent detaches or is gone; then the target runs on.</summary>
    public void Run()
    {
        while (!channel.Ended)
        {
            (bool changed, bool spoken) = Libc.Poll(_tracees.Signals, channel.Descriptor, -1);
            if (changed)
                Look();
            if (!spoken)
                continue;
            foreach (string line in channel.Read())
            {
                string[] words = line.Split(' ');
                if (words[0] == "detach")
                {
                    LetGo();
                    channel.Write($"ok detach {_exceptions.Seen}");
                    return;
                }

                Obey(words);
            }
        }

        LetGo();
    }

    public void Dispose() => _exceptions.Dispose();

    private void Obey(string[] words)
    {
        switch (words[0])
        {
            case "seize":
                _watchesCrashes = words[3] == "1";
                _tellsThreads = words[4] == "1";
                _keepsInterrupts = words[5] == "1";
                int errno = _tracees.Seize(Number(words[1]), exits: words[2] == "1");
                _seized = true;
                Release();
                Answer(words[0], errno);
                break;
            case "breakpoints":
                Tell(_tracees.StopAll());
                int failure = _exceptions.Breakpoints.Set(_tracees.All, Places(words[1..]));
                Release();
                Answer(words[0], failure);
                break;
            case "filter":
                channel.Write($"ok filter {_exceptions.SetFilter(words[1..])}");
                break;
            case "output":
                _output.SetFilter(words[1..]);
                break;
            case "rule":
                foreach (Tracee waiting in _exceptions.AddRule(words[1..]))
                    Handle(waiting);
                break;
            case "rest":
                Rest.Begin(words[1]);
                break;
            case "debugged":
                _debugged = true;
                break;
            case "calls":
                _tracees.StopsAtCalls = true;
                break;
            case "begin":
                foreach (Tracee beginning in _tracees.All.Where(each => each is { AtCall: true, Parked: true }))
                    beginning.Continue(0);
                break;
            case "stop":
                Stop();
                break;
            case "release":
                Release();
                Answer(words[0], 0);
                break;
            case "resume":
                _reports.Resume();
                break;
            default:
                throw new ArgumentException($"there is no command {words[0]}");
        }
    }

    private static Dictionary<ulong, byte> Places(IEnumerable<string> words) =>
        words.Select(word => word.Split(':')).ToDictionary(parts => Rules.Address(parts[1]), parts => (byte)Number(parts[0]));

    private static int Number(string word) => int.Parse(word, CultureInfo.InvariantCulture);

    private void Answer(string command, int errno) => channel.Write(errno == 0 ? $"ok {command}" : $"failed {command} {errno}");

    private void Tell(int? ended)
    {
        if (ended is int status)
            channel.Write($"ended {status}");
    }

    /// <summary>Looks at what has happened to the threads.</summary>
    private void Look()
    {
        _tracees.Drain();
        long until = 0;
        while (AwaitNext(until, out Tracee tracee, out int status))
        {
            until = _patience.Count();
            if (tracee.Stopped)
                Handle(tracee);
            else if (tracee.Tid == _tracees.Pid)
                Tell(status);
            else if (_tellsThreads)
                channel.Write($"gone {tracee.Tid}");
        }
    }

    private bool AwaitNext(long until, out Tracee tracee, out int status)
    {
        while (!_tracees.Next(out tracee, out status))
        {
            if (until == 0 || Stopwatch.GetTimestamp() >= until)
                return false;
        }

        return true;
    }

    /// <summary>Decides about a thread that has stopped: it runs on, or is parked.</summary>
    private void Handle(Tracee tracee)
    {
        if (!tracee.Armed && _exceptions.Breakpoints.Arm(tracee) is int errno and not 0)
            channel.Write($"blind {tracee.Tid} {errno}");
        switch (tracee.Event)
        {
            case 0 when tracee.AtCall:
                HandleCall(tracee);
                break;
            case 0:
                HandleSignal(tracee);
                break;
            case Libc.EventExec:
                _tracees.KeepLeader();
                _exceptions.Forget();
                _faults.Forget();
                _reports.ForgetEnd();
                _tracees.StopsAtCalls = false;
                _reports.Add(tracee, $"exec {tracee.Tid}");
                break;
            case Libc.EventExit:
                HandleExit(tracee);
                break;
            case Libc.EventClone when _tellsThreads:
                channel.Write($"began {Libc.EventMessage(tracee.Tid)}");
                tracee.Continue(0);
                break;
            default:
                tracee.Continue(0);
                break;
        }
    }

    private void HandleSignal(Tracee tracee)
    {
        int signal = tracee.Signal;
        if (Breakpoints.IsOurs(tracee))
            HandleHit(tracee, _exceptions.Breakpoints.KindOf(tracee));
        else if (IsKeptInterrupt(tracee))
            tracee.Continue(0);
        else if (_exceptions.Breakpoints.HasExceptions && _faults.IsManaged(_tracees, tracee))
            Decide(tracee, _exceptions.JudgeUnmade(tracee, Breakpoints.FaultKind), signal);
        else if (tracee.Doomed)
            tracee.Continue(signal);
        else if (_debugged && _faults.IsSecondOverflow(tracee))
            HandleDoom(tracee);
        else if (_watchesCrashes && (Crashes >> (signal - 1) & 1) != 0 && IsDeadly(tracee.Tid, signal))
            _reports.Add(tracee, $"signal {tracee.Tid} {signal}");
        else
            tracee.Continue(signal);
    }

    /// <summary>Tells, once, that the runtime is about to run.</summary>
    private void HandleCall(Tracee tracee)
    {
        if (!_tracees.StopsAtCalls || !Beginning.IsThere(_tracees.Pid, tracee.Tid))
        {
            tracee.Continue(0);
            return;
        }

        _tracees.StopsAtCalls = false;
        tracee.Parked = true; // and what else happens is told meanwhile
        channel.Write($"stage {tracee.Tid}");
    }

    /// <summary>Ends a process as a stack overflow does that does not hang, by abort(3).</summary>
    private void HandleDoom(Tracee tracee)
    {
        tracee.Doomed = true;
        if (_watchesCrashes)
            _reports.Add(tracee, $"signal {tracee.Tid} {Libc.SigAbrt}");
        else
            tracee.Continue(Libc.SigAbrt);
    }

    private void HandleHit(Tracee tracee, int? kind)
    {
        if (kind is null)
            tracee.Continue(0);
        else if (kind == Breakpoints.ExitKind)
            ReportExit(tracee, (int)Libc.Register(tracee.Tid, Libc.Rdi) << 8);
        else if (kind == Breakpoints.OutputKind)
            HandleOutput(tracee);
        else if (kind == Breakpoints.StageKind)
            _reports.Add(tracee, $"stage {tracee.Tid}");
        else if (kind == Breakpoints.RangeKind)
            Decide(tracee, _exceptions.JudgeUnmade(tracee, kind.Value), 0);
        else
            Decide(tracee, _exceptions.Judge(_tracees.Pid, tracee, kind.Value), 0);
    }

    /// <summary>Tells a line of debug output, and holds the thread where it counts.</summary>
    private void HandleOutput(Tracee tracee)
    {
        if (_output.Judge(_tracees.Pid, tracee, out string line))
        {
            _reports.Add(tracee, line);
            return;
        }

        channel.Write(line);
        tracee.Continue(0);
    }

    /// <summary>Whether a thread is about to take the terminal's Ctrl+C, which is for minidumper alone.</summary>
    private bool IsKeptInterrupt(Tracee tracee) =>
        _keepsInterrupts && tracee.Pending == Libc.SigInt && Libc.IsFromKernel(Libc.SignalInfo(tracee.Tid));

    /// <summary>Reports an exception that counts; one that does not goes on, unless its type is asked for.</summary>
    private void Decide(Tracee tracee, string? line, int signal)
    {
        if (line is not null)
            _reports.Add(tracee, line);
        else if (!tracee.Parked)
            tracee.Continue(signal);
    }

    /// <summary>Whether nobody catches a signal. Faults come even where they are ignored.</summary>
    private bool IsDeadly(int tid, int signal) => (_tracees.StatusMask(tid, "SigCgt") >> (signal - 1) & 1) == 0;

    /// <summary>
    /// A thread on its way out has all memory still; those that it takes with it come here, too, and wait
    /// until the first has been looked at.
    /// </summary>
    private void HandleExit(Tracee tracee)
    {
        List<Tracee> others = [.. _tracees.All.Where(other => other != tracee && other.Event != Libc.EventExit)];
        if (others.Count > 0 && (Libc.IsThreadExit(tracee.Tid) || (!_reports.HasEnd && _tracees.AnyBecomesAnother(tracee, others))))
            tracee.Continue(0);
        else if (!_reports.HasEnd)
            ReportExit(tracee, Libc.EventMessage(tracee.Tid));
        else if (!_reports.AwaitsEnd)
            tracee.Continue(0);
        else
            tracee.Parked = true;
    }

    /// <summary>Tells the end of the process, once: at exit(3), else in the kernel.</summary>
    private void ReportExit(Tracee tracee, int status)
    {
        if (_reports.HasEnd)
        {
            tracee.Continue(0);
            return;
        }

        _reports.AddEnd(tracee, status);
    }

    private void Stop()
    {
        Tell(_tracees.StopAll());
        foreach (Tracee tracee in _tracees.All.Where(each => each.Stopped))
        {
            IEnumerable<byte[]> sets = s_registerSets.Select(kind => Libc.RegisterSet(tracee.Tid, kind));
            byte[] signal = tracee.Pending != 0 && !tracee.Doomed ? Libc.SignalInfo(tracee.Tid) : [];
            channel.Write($"thread {tracee.Tid} {tracee.Pending} " + string.Join(' ', sets.Append(signal).Select(Digits)));
        }

        Answer("stop", 0);
    }

    private static string Digits(byte[] bytes) => bytes.Length == 0 ? "-" : Convert.ToHexString(bytes);

    private void Release()
    {
        foreach (Tracee tracee in _tracees.All.Where(each => each is { Stopped: true, Parked: false }).ToList())
            Handle(tracee);
    }

    /// <summary>
    /// Takes the breakpoints out and lets every thread go with the signal it was about to take. A Ctrl+C that
    /// is to reach nobody is waited for.
    /// </summary>
    private void LetGo()
    {
        if (!_seized)
            return;
        _exceptions.Dispose();
        _tracees.StopAll();
        foreach (Tracee tracee in _tracees.All.Where(each => each.Stopped).ToList())
        {
            tracee.Disarm();
            if (tracee.Pending == 0 && AwaitsInterrupt(tracee))
            {
                tracee.Continue(0);
                _tracees.AwaitStop(tracee);
            }

            if (tracee.Stopped)
                tracee.Detach(Breakpoints.IsOurs(tracee) || IsKeptInterrupt(tracee) ? 0 : tracee.Pending);
        }
    }

    /// <summary>Whether a Ctrl+C waits for a thread to take it.</summary>
    private bool AwaitsInterrupt(Tracee tracee) =>
        _keepsInterrupts && (_tracees.StatusMask(tracee.Tid, "ShdPnd") >> (Libc.SigInt - 1) & 1) != 0;
}
