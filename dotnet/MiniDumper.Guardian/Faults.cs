using System;
using System.Collections.Generic;
using System.IO;

namespace MiniDumper.Guardian;

/// <summary>Faults of managed code, which the runtime turns into exceptions: their signals come to us first.</summary>
internal sealed class Faults
{
    private const int SigFpe = 8;
    private const int SigSegv = 11;
    private const int MaxKnown = 4096;

    /// <summary>Addresses below are a null reference; any other fault of managed code ends the process (NULL_AREA_SIZE).</summary>
    private const ulong NullArea = 64 << 10;

    private const ulong Page = 4096;

    private readonly Dictionary<ulong, bool> _known = [];
    private readonly HashSet<int> _overflown = [];

    /// <summary>Whether a thread is about to take the signal of a null reference or a division in managed code.</summary>
    public bool IsManaged(Tracees tracees, Tracee tracee)
    {
        if (tracee.Signal is not (SigFpe or SigSegv))
            return false;
        ReadOnlySpan<byte> info = Libc.SignalInfo(tracee.Tid);
        if (info.Length == 0 || BitConverter.ToInt32(info[8..]) <= 0) // si_code: of a fault, not of kill(2)
            return false;
        if (tracee.Signal == SigSegv && BitConverter.ToUInt64(info[16..]) >= NullArea) // si_addr
            return false;
        ulong ip = Libc.Register(tracee.Tid, Libc.Rip);
        if (_known.TryGetValue(ip, out bool managed))
            return managed;
        if (_known.Count == MaxKnown)
            _known.Clear();
        return _known[ip] = IsCompiled(tracees.Pid, ip);
    }

    /// <summary>
    /// Whether a thread is about to take the signal of a stack overflow for the second time. The runtime has one stack to
    /// tell the first on; who comes when it is in use sleeps for ever there, also he who uses it (sigsegv_handler,
    /// pal/src/exception/signal.cpp). To tell a debugger takes more than that stack has on .NET 9.
    /// </summary>
    public bool IsSecondOverflow(Tracee tracee)
    {
        if (tracee.Signal != SigSegv)
            return false;
        ReadOnlySpan<byte> info = Libc.SignalInfo(tracee.Tid);
        if (info.Length == 0)
            return false;
        ulong fromStack = BitConverter.ToUInt64(info[16..]) - Libc.Register(tracee.Tid, Libc.Rsp); // si_addr
        return fromStack + Page < 2 * Page && !_overflown.Add(tracee.Tid);
    }

    public void Forget()
    {
        _known.Clear();
        _overflown.Clear();
    }

    /// <summary>Whether code is the JIT's, or an assembly's: what is mapped there is no library of the system.</summary>
    private static bool IsCompiled(int pid, ulong ip)
    {
        foreach (string line in File.ReadLines($"/proc/{pid}/maps"))
        {
            string[] words = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
            string[] range = words[0].Split('-');
            if (ip < Convert.ToUInt64(range[0], 16) || ip >= Convert.ToUInt64(range[1], 16))
                continue;
            string name = words.Length > 5 ? words[5] : "";
            return name.Length == 0
                || name.StartsWith("/memfd:doublemapper", StringComparison.Ordinal)
                || name.EndsWith(".dll", StringComparison.OrdinalIgnoreCase);
        }

        return false;
    }
}
