using System;
using System.Globalization;

/// <summary>The command line: "--name NUMBER" pairs and lone "--name" words.</summary>
internal sealed class Options
{
    private readonly string[] _words;

    public Options(string[] words) => _words = words;

    public bool Has(string name) => Array.IndexOf(_words, name) >= 0;

    public int Number(string name, int otherwise)
    {
        int at = Array.IndexOf(_words, name);
        return at < 0 ? otherwise : int.Parse(_words[at + 1], CultureInfo.InvariantCulture);
    }
}
