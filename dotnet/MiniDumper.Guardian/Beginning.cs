using System;

namespace MiniDumper.Guardian;

/// <summary>
/// Sees a runtime begin where no breakpoint can be had. Before it runs code, and ready for a debugger, it looks for a
/// semaphore by which one that has launched it would be told (PAL_NotifyRuntimeStarted, pal/src/thread/process.cpp).
/// We make none: whoever did and died would leave the program waiting. One that takes no debugger opens its core
/// library without that.
/// </summary>
internal static class Beginning
{
    private const int Open = 2, OpenAt = 257; // asm/unistd_64.h; musl, glibc
    private const string Semaphores = "/dev/shm/"; // sem_overview(7)
    private const string Startup = "clrst"; // RuntimeStartupSemaphoreName
    private const string CoreLibrary = "/System.Private.CoreLib.dll";

    /// <summary>Whether a thread at a system call is at that place.</summary>
    public static bool IsThere(int pid, int tid)
    {
        ulong path = Libc.Register(tid, Libc.OrigRax) switch
        {
            Open => Libc.Register(tid, Libc.Rdi),
            OpenAt => Libc.Register(tid, Libc.Rsi),
            _ => 0,
        };
        if (path == 0)
            return false;
        string text = Output.Text(pid, path);
        return text.EndsWith(CoreLibrary, StringComparison.Ordinal)
            || (text.StartsWith(Semaphores, StringComparison.Ordinal) && text.Contains(Startup, StringComparison.Ordinal));
    }
}
