using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Oracle;

/// <summary>Canonical text: a "[section]" line, then its lines. A part that fails is a line of its own.</summary>
internal sealed class Report(TextWriter output, bool list)
{
    /// <summary>Whether every object is to be printed rather than hashed.</summary>
    public bool List { get; } = list;

    public void Section(string name)
    {
        output.WriteLine($"[{name}]");
        output.Flush();
    }

    /// <summary>One line; control characters are escaped so that it stays one.</summary>
    public void Line(FormattableString text)
    {
        string line = text.ToString(CultureInfo.InvariantCulture);
        output.WriteLine(line.Any(char.IsControl) ? Escape(line) : line);
    }

    /// <summary>Makes sure that what was said so far is not lost in a crash.</summary>
    public void Flush() => output.Flush();

    /// <summary>Runs <paramref name="part"/>; its failure is part of the text.</summary>
    public void Guard(string what, Action part)
    {
        try
        {
            part();
        }
        catch (Exception error)
        {
            Line($"! {what}: {error.GetType().Name}: {error.Message}");
        }
    }

    private static string Escape(string line)
    {
        var text = new StringBuilder();
        foreach (char c in line)
        {
            text.Append(char.IsControl(c) ? $"\\u{(int)c:x4}" : c.ToString());
        }
        return text.ToString();
    }
}

/// <summary>A hash of a growing row of values.</summary>
internal sealed class RunningHash : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    public void Add(ReadOnlySpan<byte> bytes) => _hash.AppendData(bytes);

    public void Add(ulong value) => Add(BitConverter.GetBytes(value));

    public void Add(string text)
    {
        Add((ulong)text.Length);
        Add(Encoding.Unicode.GetBytes(text));
    }

    /// <summary>16 hexadecimal digits; what follows starts anew.</summary>
    public override string ToString() => Convert.ToHexStringLower(_hash.GetHashAndReset())[..16];

    public void Dispose() => _hash.Dispose();
}
