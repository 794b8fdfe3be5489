using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;

namespace MiniDumper.Guardian;

/// <summary>What exceptions mean by their method tables, as the parent tells it: which of them count, and what is told of them.</summary>
internal sealed unsafe class Rules(Rules.Reader read)
{
    /// <summary>What CLR exceptions are called on every system: EXCEPTION_COMPLUS, corexcep.h.</summary>
    private const string Code = "E0434352";

    private const int MaxMessage = 4096; // characters that are looked at
    private const int MaxInner = 64;

    private readonly Dictionary<ulong, Rule> _known = [];
    private TextFilter _texts = new([]);

    /// <summary>Reads memory; whether all of it was there.</summary>
    public delegate bool Reader(ulong address, void* buffer, int size);

    internal enum Verdict
    {
        Dismissed,
        Matches,
        ByText,
    }

    internal enum Finding
    {
        Dismissed,
        Counts,

        /// <summary>It does not count, and is told of.</summary>
        Shown,

        /// <summary>The rule for a type is to be asked for.</summary>
        Unknown,
    }

    /// <summary>Whether exceptions that do not count are told of, too.</summary>
    public bool ShowsAll { get; private set; }

    /// <summary>The method tables of what is dismissed without a look at its text.</summary>
    public IEnumerable<ulong> Dismissed => _known.Where(each => each.Value.Verdict == Verdict.Dismissed).Select(each => each.Key);

    /// <param name="words">SHOW PATTERN…</param>
    public void SetFilter(string[] words)
    {
        ShowsAll = words[0] == "1";
        _texts = new TextFilter(words[1..]);
    }

    /// <summary>Learns what a method table means; whether its exceptions are of no interest at all.</summary>
    /// <param name="words">METHODTABLE VERDICT OFFSET OFFSET NAME: in its objects, bytes to their message and to the exception inside.</param>
    public bool Add(string[] words)
    {
        Rule rule = new((Verdict)Number(words[1]), Number(words[2]), Number(words[3]), Channel.Text(words[4]));
        _known[Address(words[0])] = rule;
        return rule.Verdict == Verdict.Dismissed && !ShowsAll;
    }

    /// <summary>Forgets a program that is no more.</summary>
    public void Forget() => _known.Clear();

    /// <param name="thrown">The object; 0 for one that is yet to be made.</param>
    /// <param name="methodTable">What stands for its type.</param>
    /// <param name="facts">NAME MESSAGE of it, and of those inside where they are shown; METHODTABLE OBJECT of what is unknown.</param>
    public Finding Judge(ulong thrown, ulong methodTable, out string facts)
    {
        facts = "";
        if (!_known.TryGetValue(methodTable, out Rule rule))
        {
            facts = $"{methodTable:x} {thrown:x}";
            return Finding.Unknown;
        }

        if (rule.Verdict == Verdict.Dismissed && !ShowsAll)
            return Finding.Dismissed;

        string message = Message(thrown, rule);
        bool counts = !Rest.IsOn && (rule.Verdict == Verdict.Matches || (rule.Verdict == Verdict.ByText && _texts.Counts($"{Code}.{rule.Name} (\"{message}\")")));
        if (!counts && !ShowsAll)
            return Finding.Dismissed;
        facts = $"{Channel.Hex(rule.Name)} {Channel.Hex(message)}";
        return counts ? Finding.Counts : Show(thrown, rule, ref facts);
    }

    public static ulong Address(string word) => ulong.Parse(word, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static int Number(string word) => int.Parse(word, CultureInfo.InvariantCulture);

    /// <summary>Tells of the exceptions inside one, too.</summary>
    private Finding Show(ulong thrown, Rule rule, ref string facts)
    {
        StringBuilder all = new(facts);
        for (int depth = 0; depth < MaxInner; depth++)
        {
            if (thrown == 0 || rule.InnerOffset == 0 || !TryRead(thrown + (ulong)rule.InnerOffset, out thrown) || !TryRead(thrown, out ulong methodTable))
                break;
            if (!_known.TryGetValue(methodTable, out rule))
            {
                facts = $"{methodTable:x} {thrown:x}";
                return Finding.Unknown;
            }

            all.Append(CultureInfo.InvariantCulture, $" {Channel.Hex(rule.Name)} {Channel.Hex(Message(thrown, rule))}");
        }

        facts = all.ToString();
        return Finding.Shown;
    }

    private string Message(ulong thrown, Rule rule)
    {
        // A string is its method table, its length, its characters (object.h, StringObject).
        if (thrown == 0 || !TryRead(thrown + (ulong)rule.MessageOffset, out ulong text) || text == 0 || !TryRead(text + 8, out ulong head))
            return "";
        int length = Math.Clamp((int)head, 0, MaxMessage);
        char* characters = stackalloc char[length];
        return read(text + 12, characters, 2 * length) ? new string(characters, 0, length) : "";
    }

    private bool TryRead(ulong address, out ulong value)
    {
        fixed (ulong* at = &value)
            return read(address, at, sizeof(ulong));
    }

    private readonly record struct Rule(Verdict Verdict, int MessageOffset, int InnerOffset, string Name);
}
