using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Guardian;

/// <summary>The system calls of the guardian, x86-64; numbers are those of the kernel's headers.</summary>
internal static unsafe class Libc
{
    public const int SigInt = 2;
    public const int SigTrap = 5;
    public const int SigAbrt = 6;
    public const int SigUrg = 23;
    public const int NoProcess = 3; // ESRCH, asm-generic/errno-base.h
    public const int WNoHang = 1;
    public const int WAll = 0x40000000; // __WALL, linux/wait.h: threads too

    // linux/ptrace.h
    public const int Cont = 7;
    public const int PeekUser = 3;
    public const int Detach = 17;
    public const int GetEventMessage = 0x4201;
    public const int GetSigInfo = 0x4202;
    public const int GetRegSet = 0x4204;
    public const int SysCall = 24;
    public const int Seize = 0x4206;
    public const int Interrupt = 0x4207;
    public const int Listen = 0x4208;
    public const int OptionSysGood = 1;
    public const int OptionClone = 8;
    public const int OptionExec = 0x10;
    public const int OptionExit = 0x40;
    public const int EventClone = 3;
    public const int EventExec = 4;
    public const int EventExit = 6;
    public const int EventStop = 128;

    public const int OrigRax = 15 * 8; // offsets in struct user_regs_struct, sys/user.h
    public const int Rdx = 12 * 8;
    public const int Rsi = 13 * 8;
    public const int Rdi = 14 * 8;
    public const int Rip = 16 * 8;
    public const int Rsp = 19 * 8;
    public const int SigInfoSize = 128; // SI_MAX_SIZE, asm-generic/siginfo.h

    private const int SysExit = 60; // asm/unistd_64.h
    private const int SysExitGroup = 231;
    private const int SigChld = 17;
    private const int RLimitNoFile = 7; // asm-generic/resource.h
    private const short PollIn = 1;
    private const int NoSignal = 0x4000; // MSG_NOSIGNAL, bits/socket.h

    /// <summary>Ends this process at once.</summary>
    public static void Exit() => _exit(0);

    public static int Errno => Marshal.GetLastPInvokeError();

    public static nint Ptrace(int request, int tid, nint address = 0, nint data = 0) =>
        ptrace(request, tid, address, data);

    /// <summary>A word of a stopped thread's registers.</summary>
    public static ulong Register(int tid, int offset) => (ulong)ptrace(PeekUser, tid, offset, 0);

    /// <summary>Whether a thread stopped on its way out ends by itself alone (exit(2), not exit_group(2)).</summary>
    public static bool IsThreadExit(int tid) => Register(tid, OrigRax) == SysExit;

    /// <summary>Whether a thread stopped on its way out ends all (exit_group(2)).</summary>
    public static bool IsProcessExit(int tid) => Register(tid, OrigRax) == SysExitGroup;

    /// <summary>A register set of a stopped thread; empty where it has none.</summary>
    public static byte[] RegisterSet(int tid, int kind)
    {
        byte* buffer = stackalloc byte[16384]; // AMX tiles included (Intel SDM volume 1, 13.5)
        nint* vector = stackalloc nint[2] { (nint)buffer, 16384 }; // struct iovec
        return ptrace(GetRegSet, tid, kind, (nint)vector) < 0 ? [] : new Span<byte>(buffer, (int)vector[1]).ToArray();
    }

    /// <summary>The siginfo_t of the signal that a thread is stopped at; empty where there is none.</summary>
    public static byte[] SignalInfo(int tid)
    {
        byte[] info = new byte[SigInfoSize];
        fixed (byte* at = info)
            return ptrace(GetSigInfo, tid, 0, (nint)at) < 0 ? [] : info;
    }

    /// <summary>Whether a signal is the terminal's, and not sent by a process (SI_KERNEL, sigaction(2)).</summary>
    public static bool IsFromKernel(ReadOnlySpan<byte> info) => info.Length > 0 && BitConverter.ToInt32(info[8..]) == 0x80;

    public static int EventMessage(int tid)
    {
        nint message = 0;
        _ = ptrace(GetEventMessage, tid, 0, (nint)(&message));
        return (int)message;
    }

    /// <summary>A thread whose state has changed; 0 or less where there is none.</summary>
    public static int WaitAny(out int status)
    {
        fixed (int* at = &status)
            return waitpid(-1, at, WAll | WNoHang);
    }

    /// <summary>A descriptor that can be read when a child or tracee has changed its state.</summary>
    public static int ChildSignals()
    {
        ulong mask = 1UL << (SigChld - 1);
        ulong* set = stackalloc ulong[16]; // sigset_t of glibc
        set[0] = mask;
        return signalfd(-1, set, 0x80000 | 0x800); // SFD_CLOEXEC | SFD_NONBLOCK
    }

    /// <summary>Waits until one of two descriptors can be read, for so many milliseconds (-1: for ever).</summary>
    public static (bool First, bool Second) Poll(int first, int second, int milliseconds)
    {
        PollDescriptor* both = stackalloc PollDescriptor[2];
        both[0] = new PollDescriptor { Descriptor = first, Events = PollIn };
        both[1] = new PollDescriptor { Descriptor = second, Events = PollIn };
        return poll(both, 2, milliseconds) <= 0 ? (false, false) : (both[0].Found != 0, both[1].Found != 0);
    }

    public static int Read(int descriptor, Span<byte> buffer)
    {
        fixed (byte* at = buffer)
            return (int)read(descriptor, at, buffer.Length);
    }

    public static int Write(int descriptor, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* at = bytes)
            return (int)send(descriptor, at, bytes.Length, NoSignal);
    }

    public static void Close(int descriptor) => _ = close(descriptor);

    /// <summary>Reads memory of another process; whether all of it was there.</summary>
    public static bool ReadMemory(int pid, ulong address, void* buffer, int size)
    {
        nint* local = stackalloc nint[2] { (nint)buffer, size };
        nint* remote = stackalloc nint[2] { (nint)address, size };
        return process_vm_readv(pid, local, 1, remote, 1, 0) == size;
    }

    /// <summary>Allows as many descriptors as the system lets us: a breakpoint takes one in each thread.</summary>
    public static void RaiseDescriptorLimit()
    {
        ulong* limits = stackalloc ulong[2];
        if (getrlimit(RLimitNoFile, limits) == 0)
        {
            limits[0] = limits[1];
            _ = setrlimit(RLimitNoFile, limits);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PollDescriptor
    {
        public int Descriptor;
        public short Events;
        public short Found;
    }

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint ptrace(nint request, int tid, nint address, nint data);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int waitpid(int pid, int* status, int options);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int signalfd(int descriptor, ulong* mask, int flags);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int poll(PollDescriptor* descriptors, nuint count, int milliseconds);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint read(int descriptor, void* buffer, nint size);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint send(int descriptor, void* buffer, nint size, int flags);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int close(int descriptor);

    [DllImport("libc.so.6")]
    private static extern void _exit(int status);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint process_vm_readv(int pid, nint* local, nuint count, nint* remote, nuint remotes, nuint flags);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int getrlimit(int resource, ulong* limits);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int setrlimit(int resource, ulong* limits);
}
