using System;
using System.Globalization;

namespace MiniDumper.Guardian;

/// <summary>
/// The process that holds a target for minidumper: its one thread makes every ptrace call. It is started
/// with SIGCHLD blocked in a session of its own, and ends when its parent does.
/// </summary>
internal static class Program
{
    private static void Main(string[] words)
    {
        Channel channel = new(int.Parse(words[0], CultureInfo.InvariantCulture));
        Libc.RaiseDescriptorLimit();
        using Guardian guardian = new(channel);
        guardian.Run();
    }
}
