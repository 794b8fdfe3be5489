using System;
using System.Globalization;
using MiniDumper.Guardian.Debugging;

namespace MiniDumper.Guardian;

/// <summary>
/// The process that holds a target for minidumper: its one thread makes every ptrace call. It is started
/// with SIGCHLD blocked in a session of its own, and ends when its parent does. With the word <c>debug</c> before
/// the number of its connection it is the target's debugger: a second process, as ICorDebug waits for the target's
/// end and would take what ptrace tells.
/// </summary>
internal static class Program
{
    private static void Main(string[] words)
    {
        Channel channel = new(int.Parse(words[^1], CultureInfo.InvariantCulture));
        if (words[0] == "debug")
        {
            new Debugger(channel, new DebuggedProcess()).Run();
            Libc.Exit(); // whatever libmscordbi's threads still wait for
        }
        else
        {
            Libc.RaiseDescriptorLimit();
            using Guardian guardian = new(channel, new Tracees());
            guardian.Run();
        }
    }
}
