using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;

namespace MiniDumper.Guardian;

/// <summary>
/// Hardware breakpoints as perf events (perf_event_open(2)): descriptors, which the kernel takes out when
/// we die. A hit is a SIGURG (fcntl(2), F_SETSIG), seen by the tracer before the next instruction; a thread whose
/// tracer dies just then takes it, and that does nothing. The SIGTRAP that perf can send would end the process.
/// </summary>
internal sealed unsafe class Breakpoints
{
    /// <summary>Kinds of those at the JIT's helpers that throw an exception, and throw one again.</summary>
    public const int ThrowKind = 0, RethrowKind = 1;

    /// <summary>The kind of the one that every exception passes on its first throw.</summary>
    public const int AllKind = 2;

    /// <summary>What a fault of managed code, which is no breakpoint, is told as.</summary>
    public const int FaultKind = 3;

    /// <summary>The kind of the one at the JIT's helper for an index out of range, whose exception is yet to be made.</summary>
    public const int RangeKind = 4;

    /// <summary>The kind of the one where .NET puts debug output out.</summary>
    public const int OutputKind = 5;

    /// <summary>The kind of the one that a program passes as it begins.</summary>
    public const int StageKind = 6;

    /// <summary>The kind of the one at exit(3).</summary>
    public const int ExitKind = 9;

    private const int PerfEventOpen = 298; // asm/unistd_64.h
    private const int CloseOnExec = 8; // PERF_FLAG_FD_CLOEXEC
    private const int SetFlags = 4, SetSignal = 10, SetOwner = 15; // F_SETFL, F_SETSIG, F_SETOWN_EX, asm-generic/fcntl.h
    private const int Async = 0x2000; // O_ASYNC
    private const int PollIn = 1; // POLL_IN, asm-generic/siginfo.h: why the signal was sent

    // struct perf_event_attr, linux/perf_event.h, to config2 (version 1).
    private const int AttributeSize = 72;
    private const uint TypeBreakpoint = 5;
    private const uint Execute = 4; // HW_BREAKPOINT_X
    private const ulong Flags = 1UL << 5 | 1UL << 6; // exclude_kernel, exclude_hv

    private readonly Dictionary<ulong, byte> _kinds = []; // what was watched before, too: a thread may still wait there
    private IReadOnlyCollection<ulong> _watched = [];

    /// <summary>What dismisses exceptions before they stop.</summary>
    public KernelFilter Filter { get; } = new();

    /// <summary>Whether exceptions are among what is watched.</summary>
    public bool HasExceptions => _watched.Any(address => _kinds[address] is not (ExitKind or OutputKind or StageKind));

    /// <summary>Whether a thread that is about to take a SIGURG was sent it by one of these.</summary>
    public static bool IsOurs(Tracee tracee)
    {
        if (tracee.Pending != Libc.SigUrg)
            return false;
        ReadOnlySpan<byte> info = Libc.SignalInfo(tracee.Tid);
        return info.Length > 0 && MemoryMarshal.Read<int>(info[8..]) == PollIn; // si_code
    }

    /// <summary>Which kind a thread with such a signal is at; null where there is none.</summary>
    public int? KindOf(Tracee tracee) =>
        _kinds.TryGetValue(Libc.Register(tracee.Tid, Libc.Rip), out byte kind) ? kind : null;

    /// <summary>Has so many addresses watched in every thread, stopped as they are, and no others; the errno, or 0.</summary>
    public int Set(IEnumerable<Tracee> tracees, IReadOnlyDictionary<ulong, byte> kinds)
    {
        _watched = [.. kinds.Keys];
        foreach ((ulong address, byte kind) in kinds)
            _kinds[address] = kind;

        foreach (Tracee tracee in tracees)
        {
            tracee.Disarm();
            int errno = Arm(tracee);
            if (errno != 0)
                return errno;
        }

        return 0;
    }

    /// <summary>Forgets a program that is no more.</summary>
    public void Forget()
    {
        _watched = [];
        _kinds.Clear();
    }

    /// <summary>Has the addresses watched in one thread; the errno, or 0.</summary>
    public int Arm(Tracee tracee)
    {
        tracee.Armed = true;
        foreach (ulong address in _watched)
        {
            int descriptor = Open(tracee.Tid, address);
            if (descriptor < 0)
                return Libc.Errno;
            tracee.Breakpoints.Add(descriptor);
            if (!SignalsTo(tracee.Tid, descriptor))
                return Libc.Errno;
            if (_kinds[address] is ThrowKind or AllKind)
                Filter.Attach(descriptor);
        }

        return 0;
    }

    private static int Open(int tid, ulong address)
    {
        byte* attribute = stackalloc byte[AttributeSize];
        new Span<byte>(attribute, AttributeSize).Clear();
        *(uint*)attribute = TypeBreakpoint;
        *(uint*)(attribute + 4) = AttributeSize;
        *(ulong*)(attribute + 16) = 1; // sample_period
        *(ulong*)(attribute + 40) = Flags;
        *(uint*)(attribute + 52) = Execute;
        *(ulong*)(attribute + 56) = address;
        *(ulong*)(attribute + 64) = (ulong)sizeof(nint); // bp_len
        return (int)syscall(PerfEventOpen, (nint)attribute, tid, -1, -1, CloseOnExec);
    }

    private static bool SignalsTo(int tid, int descriptor)
    {
        int* owner = stackalloc int[2] { 0, tid }; // struct f_owner_ex: F_OWNER_TID
        return fcntl(descriptor, SetOwner, (nint)owner) == 0
            && fcntl(descriptor, SetSignal, Libc.SigUrg) == 0
            && fcntl(descriptor, SetFlags, Async) == 0;
    }

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint syscall(nint number, nint first, nint second, nint third, nint fourth, nint fifth);

    // Variadic: its third argument goes where that of any function does (System V ABI, x86-64).
    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int fcntl(int descriptor, int command, nint argument);
}
