using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace MiniDumper.Guardian;

/// <summary>
/// First chance exceptions: hardware breakpoints where the runtime throws, and which of the hits count.
/// A hit costs a look at the object's method table; what that means, the parent tells once.
/// </summary>
internal sealed unsafe class Exceptions(Channel channel) : IDisposable
{
    /// <summary>What CLR exceptions are called on every system: EXCEPTION_COMPLUS, corexcep.h.</summary>
    internal const string Code = "E0434352";

    internal const int MaxMessage = 4096; // characters that are looked at

    private readonly Dictionary<ulong, Rule> _rules = [];
    private readonly List<(ulong MethodTable, Tracee Tracee)> _waiting = [];
    private TextFilter _texts = new([]);
    private bool _showsAll;
    private int _filterErrno = -1; // not tried

    internal enum Verdict
    {
        Dismissed,
        Matches,
        ByText,
    }

    /// <param name="MessageOffset">Bytes from an exception object to the pointer to its message.</param>
    internal readonly record struct Rule(Verdict Verdict, int MessageOffset, string Name)
    {
        public bool Counts(TextFilter texts, string message) =>
            Verdict == Verdict.Matches || (Verdict == Verdict.ByText && texts.Counts($"{Code}.{Name} (\"{message}\")"));
    }

    /// <summary>What stops threads where they throw.</summary>
    public Breakpoints Breakpoints { get; } = new();

    /// <summary>How many exceptions were thrown.</summary>
    public long Seen { get; private set; }

    /// <param name="showsAll">Whether exceptions that do not count are told of, too.</param>
    /// <param name="patterns">+ or - and a text in hexadecimal digits: what has to, and what must not match.</param>
    /// <returns>The errno of what keeps types from being dismissed in the kernel, or 0.</returns>
    public int SetFilter(bool showsAll, IEnumerable<string> patterns)
    {
        _showsAll = showsAll;
        _texts = new TextFilter(patterns);
        if (_filterErrno < 0)
            _filterErrno = Breakpoints.Filter.Open();
        return _filterErrno;
    }

    /// <summary>Learns what a method table means; the threads that waited for it.</summary>
    public List<Tracee> AddRule(string methodTable, Verdict verdict, int messageOffset, string name)
    {
        ulong key = Address(methodTable);
        _rules[key] = new Rule(verdict, messageOffset, Channel.Text(name));
        if (verdict == Verdict.Dismissed && !_showsAll)
            Breakpoints.Filter.Ignore(key);
        List<Tracee> ready = [.. _waiting.Where(each => each.MethodTable == key).Select(each => each.Tracee)];
        _waiting.RemoveAll(each => each.MethodTable == key);
        foreach (Tracee tracee in ready)
        {
            tracee.Parked = false;
            Seen--; // it is judged anew
        }

        return ready;
    }

    /// <summary>The event to report where an exception counts; null where it does not, or its type is asked for.</summary>
    public string? Judge(int pid, Tracee tracee, int kind)
    {
        Seen++;
        if (kind == Breakpoints.RethrowKind) // which one, the thread itself knows: the parent asks
            return Rest.IsOn && !_showsAll ? null : $"exception {tracee.Tid} 0 {kind} - -";
        ulong thrown = Libc.Register(tracee.Tid, Libc.Rdi);
        if (kind == Breakpoints.AllKind && tracee.Thrown == thrown)
        {
            tracee.Thrown = 0; // it passed the helper before this place was watched
            Seen--;
            return null;
        }

        tracee.Thrown = kind == Breakpoints.ThrowKind ? thrown : 0;
        return TryRead(pid, thrown, out ulong methodTable) ? Judge(pid, tracee, thrown, methodTable, kind) : null; // throw null
    }

    /// <summary>The same for an exception that is yet to be made: the signal of the fault, or the kind of the place stands for its type.</summary>
    public string? JudgeUnmade(int pid, Tracee tracee, int kind)
    {
        Seen++;
        int key = kind == Breakpoints.FaultKind ? tracee.Signal : kind;
        return Judge(pid, tracee, thrown: 0, methodTable: (ulong)key, kind);
    }

    private string? Judge(int pid, Tracee tracee, ulong thrown, ulong methodTable, int kind)
    {
        if (!_rules.TryGetValue(methodTable, out Rule rule))
        {
            tracee.Parked = true;
            if (_waiting.TrueForAll(each => each.MethodTable != methodTable))
                channel.Write($"type {tracee.Tid} {methodTable:x} {thrown:x}");
            _waiting.Add((methodTable, tracee));
            return null;
        }

        bool readsText = _showsAll || rule.Verdict != Verdict.Dismissed;
        string message = readsText && thrown != 0 ? Message(pid, thrown + (ulong)rule.MessageOffset) : "";
        string facts = readsText ? $"{Channel.Hex(rule.Name)} {Channel.Hex(message)}" : "";
        if (!Rest.IsOn && rule.Counts(_texts, message))
            return $"exception {tracee.Tid} {thrown:x} {kind} {facts}";
        if (_showsAll)
            channel.Write($"seen {tracee.Tid} {facts}");
        return null;
    }

    /// <summary>Forgets a program that is no more.</summary>
    public void Forget()
    {
        Breakpoints.Forget();
        _rules.Clear();
        _waiting.Clear();
    }

    public void Dispose()
    {
        foreach ((ulong methodTable, Rule rule) in _rules)
            Seen += rule.Verdict == Verdict.Dismissed ? (long)Breakpoints.Filter.Count(methodTable) : 0;
        Breakpoints.Filter.Dispose();
    }

    public static ulong Address(string word) => ulong.Parse(word, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static bool TryRead(int pid, ulong address, out ulong value)
    {
        fixed (ulong* at = &value)
            return Libc.ReadMemory(pid, address, at, sizeof(ulong));
    }

    private static string Message(int pid, ulong place)
    {
        // A string is its method table, its length, its characters (object.h, StringObject).
        if (!TryRead(pid, place, out ulong text) || !TryRead(pid, text + 8, out ulong head))
            return "";
        int length = Math.Clamp((int)head, 0, MaxMessage);
        char* characters = stackalloc char[length];
        return Libc.ReadMemory(pid, text + 12, characters, 2 * length) ? new string(characters, 0, length) : "";
    }
}
