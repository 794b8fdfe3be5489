using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace MiniDumper.Guardian;

/// <summary>
/// Hardware breakpoints as perf events (perf_event_open(2)): descriptors, which the kernel takes out when
/// we die. A hit is a SIGTRAP that a tracer sees first.
/// </summary>
internal sealed unsafe class Breakpoints(KernelFilter filter) : IDisposable
{
    /// <summary>Kinds of those at the JIT's helpers that throw an exception, and throw one again.</summary>
    public const int ThrowKind = 0, RethrowKind = 1;

    /// <summary>The kind of the one that every exception passes on its first throw.</summary>
    public const int AllKind = 2;

    /// <summary>What a fault of managed code, which is no breakpoint, is told as.</summary>
    public const int FaultKind = 3;

    /// <summary>The kind of the one at exit(3).</summary>
    public const int ExitKind = 9;

    private const int PerfEventOpen = 298; // asm/unistd_64.h
    private const int CloseOnExec = 8; // PERF_FLAG_FD_CLOEXEC
    private const nint Disable = 0x2401; // PERF_EVENT_IOC_DISABLE
    private const int TrapPerf = 6; // TRAP_PERF, asm-generic/siginfo.h
    private const int Cookie = 0x4d44; // marks our hits

    // struct perf_event_attr, linux/perf_event.h, to sig_data (version 7, kernel 5.13).
    private const int AttributeSize = 128;
    private const uint TypeBreakpoint = 5;
    private const uint Execute = 4; // HW_BREAKPOINT_X
    private const ulong Flags =
        1UL << 1 | 1UL << 5 | 1UL << 6 // inherit, exclude_kernel, exclude_hv
        | 1UL << 35 | 1UL << 36 | 1UL << 37; // inherit_thread, remove_on_exec, sigtrap

    private readonly List<int> _descriptors = [];

    public bool HasExceptions { get; private set; }

    /// <summary>Whether a thread that is about to take a SIGTRAP has hit one of our breakpoints, and of which kind.</summary>
    public static bool IsHit(int tid, out int kind)
    {
        ReadOnlySpan<byte> info = Libc.SignalInfo(tid);
        kind = 0;
        if (info.Length == 0)
            return false;
        int data = MemoryMarshal.Read<int>(info[24..]); // si_perf_data
        kind = data & 0xff;
        return MemoryMarshal.Read<int>(info[8..]) == TrapPerf && data >> 8 == Cookie;
    }

    /// <summary>Sets one in every thread; those born later have it from their parents. The errno, or 0.</summary>
    public int Set(IEnumerable<Tracee> tracees, byte kind, ulong address)
    {
        HasExceptions |= kind != ExitKind;
        byte* attribute = stackalloc byte[AttributeSize];
        new Span<byte>(attribute, AttributeSize).Clear();
        *(uint*)attribute = TypeBreakpoint;
        *(uint*)(attribute + 4) = AttributeSize;
        *(ulong*)(attribute + 16) = 1; // sample_period
        *(ulong*)(attribute + 40) = Flags;
        *(uint*)(attribute + 52) = Execute;
        *(ulong*)(attribute + 56) = address;
        *(ulong*)(attribute + 64) = (ulong)sizeof(nint); // bp_len
        *(ulong*)(attribute + 120) = (ulong)(Cookie << 8 | kind);
        foreach (Tracee tracee in tracees)
        {
            int descriptor = (int)syscall(PerfEventOpen, (nint)attribute, tracee.Tid, -1, -1, CloseOnExec);
            if (descriptor < 0)
                return Libc.Errno;
            _descriptors.Add(descriptor);
            if (kind is ThrowKind or AllKind)
                filter.Attach(descriptor);
        }

        return 0;
    }

    /// <summary>Takes them out of every thread.</summary>
    public void Dispose()
    {
        foreach (int descriptor in _descriptors)
        {
            _ = ioctl(descriptor, Disable, 0);
            _ = close(descriptor);
        }

        _descriptors.Clear();
    }

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint syscall(nint number, nint first, nint second, nint third, nint fourth, nint fifth);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int ioctl(int descriptor, nint request, nint argument);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int close(int descriptor);
}
