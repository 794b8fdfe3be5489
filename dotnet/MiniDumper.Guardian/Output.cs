using System;
using System.Collections.Generic;
using System.Text;

namespace MiniDumper.Guardian;

/// <summary>Debug output: what .NET hands to syslog(3) where no debugger is attached.</summary>
internal sealed unsafe class Output
{
    private const int MaxLine = 4096; // bytes that are looked at
    private const int Page = 4096;

    private TextFilter? _texts;

    /// <param name="patterns">+ or - and a text in hexadecimal digits: what has to, and what must not match.</param>
    public void SetFilter(IEnumerable<string> patterns) => _texts = new TextFilter(patterns);

    /// <summary>The line that a thread is about to put out, and whether it counts; SystemNative_SysLog(priority, "%s", text).</summary>
    public bool Judge(int pid, Tracee tracee, out string line)
    {
        string text = Text(pid, Libc.Register(tracee.Tid, Libc.Rdx));
        bool counts = !Rest.IsOn && _texts is not null && _texts.Counts(text);
        line = $"{(counts ? "output" : "said")} {tracee.Tid} {Channel.Hex(text)}";
        return counts;
    }

    /// <summary>A text of UTF-8 that a zero byte ends, read page by page, without the end of its line.</summary>
    public static string Text(int pid, ulong address)
    {
        byte* bytes = stackalloc byte[MaxLine];
        int length = 0;
        while (length < MaxLine)
        {
            int size = Math.Min(MaxLine - length, Page - (int)((address + (ulong)length) % Page));
            if (!Libc.ReadMemory(pid, address + (ulong)length, bytes + length, size))
                break;
            int end = new ReadOnlySpan<byte>(bytes + length, size).IndexOf((byte)0);
            length += end < 0 ? size : end;
            if (end >= 0)
                break;
        }

        return Encoding.UTF8.GetString(bytes, length).TrimEnd('\r', '\n');
    }
}
