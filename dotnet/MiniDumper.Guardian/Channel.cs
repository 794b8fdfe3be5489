using System;
using System.Collections.Generic;
using System.Text;

namespace MiniDumper.Guardian;

/// <summary>Lines of words to and from the parent. Texts travel in hexadecimal digits of their UTF-8 bytes.</summary>
internal sealed class Channel(int descriptor)
{
    private readonly byte[] _buffer = new byte[1 << 16];
    private readonly List<byte> _rest = [];

    public int Descriptor => descriptor;

    /// <summary>Whether the parent is gone.</summary>
    public bool Ended { get; private set; }

    public static string Hex(string text) => text.Length == 0 ? "-" : Convert.ToHexString(Encoding.UTF8.GetBytes(text));

    public static string Text(string hex) => hex == "-" ? "" : Encoding.UTF8.GetString(Convert.FromHexString(hex));

    public void Write(string line)
    {
        ReadOnlySpan<byte> bytes = Encoding.UTF8.GetBytes(line + "\n");
        while (bytes.Length > 0 && !Ended)
        {
            int done = Libc.Write(descriptor, bytes);
            Ended = done < 0;
            bytes = bytes[Math.Max(done, 0)..];
        }
    }

    /// <summary>Reads what is there; the whole lines of it.</summary>
    public IEnumerable<string> Read()
    {
        int count = Libc.Read(descriptor, _buffer);
        Ended |= count <= 0;
        for (int i = 0; i < count; i++)
        {
            if (_buffer[i] != '\n')
            {
                _rest.Add(_buffer[i]);
                continue;
            }

            string line = Encoding.UTF8.GetString([.. _rest]);
            _rest.Clear();
            yield return line;
        }
    }
}
