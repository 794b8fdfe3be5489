using System;
using System.Collections.Generic;
using System.Linq;

namespace MiniDumper.Guardian;

/// <summary>
/// First chance exceptions: hardware breakpoints where the runtime throws, and which of the hits count.
/// A hit costs a look at the object's method table; what that means, the parent tells once.
/// </summary>
internal sealed unsafe class Exceptions : IDisposable
{
    private readonly Channel _channel;
    private readonly Rules _rules;
    private readonly List<(string MethodTable, Tracee Tracee)> _waiting = [];
    private int _pid;
    private int _filterErrno = -1; // not tried

    public Exceptions(Channel channel)
    {
        _channel = channel;
        _rules = new Rules((address, buffer, size) => Libc.ReadMemory(_pid, address, buffer, size));
    }

    /// <summary>What stops threads where they throw.</summary>
    public Breakpoints Breakpoints { get; } = new();

    /// <summary>How many exceptions were thrown.</summary>
    public long Seen { get; private set; }

    /// <param name="words">See <see cref="Rules.SetFilter"/>.</param>
    /// <returns>The errno of what keeps types from being dismissed in the kernel, or 0.</returns>
    public int SetFilter(string[] words)
    {
        _rules.SetFilter(words);
        if (_filterErrno < 0)
            _filterErrno = Breakpoints.Filter.Open();
        return _filterErrno;
    }

    /// <summary>Learns what a method table means; the threads that waited for it.</summary>
    /// <param name="words">See <see cref="Rules.Add"/>.</param>
    public List<Tracee> AddRule(string[] words)
    {
        if (_rules.Add(words))
            Breakpoints.Filter.Ignore(Rules.Address(words[0]));
        List<Tracee> ready = [.. _waiting.Where(each => each.MethodTable == words[0]).Select(each => each.Tracee)];
        _waiting.RemoveAll(each => each.MethodTable == words[0]);
        foreach (Tracee tracee in ready)
        {
            tracee.Parked = false;
            Seen--; // it is judged anew
        }

        return ready;
    }

    /// <summary>The event to report where an exception counts; null where it does not, or a type is asked for.</summary>
    public string? Judge(int pid, Tracee tracee, int kind)
    {
        _pid = pid;
        Seen++;
        if (kind == Breakpoints.RethrowKind) // which one, the thread itself knows: the parent asks
            return Rest.IsOn && !_rules.ShowsAll ? null : $"exception {tracee.Tid} 0 {kind} - -";
        ulong thrown = Libc.Register(tracee.Tid, Libc.Rdi);
        if (kind == Breakpoints.AllKind && tracee.Thrown == thrown)
        {
            tracee.Thrown = 0; // it passed the helper before this place was watched
            Seen--;
            return null;
        }

        tracee.Thrown = kind == Breakpoints.ThrowKind ? thrown : 0;
        ulong methodTable;
        return Libc.ReadMemory(pid, thrown, &methodTable, sizeof(ulong)) ? Judge(tracee, thrown, methodTable, kind) : null; // throw null
    }

    /// <summary>The same for an exception that is yet to be made: the signal of the fault, or the kind of the place stands for its type.</summary>
    public string? JudgeUnmade(Tracee tracee, int kind)
    {
        Seen++;
        int key = kind == Breakpoints.FaultKind ? tracee.Signal : kind;
        return Judge(tracee, thrown: 0, methodTable: (ulong)key, kind);
    }

    private string? Judge(Tracee tracee, ulong thrown, ulong methodTable, int kind)
    {
        switch (_rules.Judge(thrown, methodTable, out string facts))
        {
            case Rules.Finding.Counts:
                return $"exception {tracee.Tid} {thrown:x} {kind} {facts}";
            case Rules.Finding.Shown:
                _channel.Write($"seen {tracee.Tid} {facts}");
                break;
            case Rules.Finding.Unknown:
                Await(tracee, facts);
                break;
        }

        return null;
    }

    /// <summary>Parks a thread until a type is known, METHODTABLE OBJECT.</summary>
    private void Await(Tracee tracee, string type)
    {
        string methodTable = type[..type.IndexOf(' ', StringComparison.Ordinal)];
        tracee.Parked = true;
        if (_waiting.TrueForAll(each => each.MethodTable != methodTable))
            _channel.Write($"type {tracee.Tid} {type}");
        _waiting.Add((methodTable, tracee));
    }

    /// <summary>Forgets a program that is no more.</summary>
    public void Forget()
    {
        Breakpoints.Forget();
        _rules.Forget();
        _waiting.Clear();
    }

    public void Dispose()
    {
        foreach (ulong methodTable in _rules.Dismissed)
            Seen += (long)Breakpoints.Filter.Count(methodTable);
        Breakpoints.Filter.Dispose();
    }
}
