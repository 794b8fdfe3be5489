using System;
using System.Collections.Generic;
using System.IO.Enumeration;

namespace MiniDumper.Guardian;

/// <summary>Which texts count: those that have one of some in them, and none of others.</summary>
internal sealed class TextFilter
{
    private readonly List<string> _wanted = [];
    private readonly List<string> _excluded = [];

    /// <param name="patterns">+ or - and a text in hexadecimal digits: what has to, and what must not match.</param>
    public TextFilter(IEnumerable<string> patterns)
    {
        foreach (string pattern in patterns)
        {
            // The backslash is the one letter that stands for itself in a text, and not in an expression.
            string expression = $"*{Channel.Text(pattern[1..]).Replace("\\", "\\\\", StringComparison.Ordinal)}*";
            (pattern[0] == '+' ? _wanted : _excluded).Add(expression);
        }
    }

    public bool Counts(string text) =>
        (_wanted.Count == 0 || _wanted.Exists(pattern => Matches(pattern, text)))
        && !_excluded.Exists(pattern => Matches(pattern, text));

    private static bool Matches(string pattern, string text) =>
        FileSystemName.MatchesSimpleExpression(pattern, text, ignoreCase: true);
}
