using System;
using System.IO;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MiniDumper.Bridge;

/// <summary>Where the target's bytes come from; the handles are the worker's own and stay open.</summary>
internal abstract class MemorySource
{
    /// <summary>Fills the buffer from an address; returns the bytes before the first that cannot be read.</summary>
    public abstract int Read(ulong address, Span<byte> buffer);
}

/// <summary>A file whose offsets are addresses: /proc/PID/mem.</summary>
internal sealed unsafe partial class AddressSpaceFile(int descriptor) : MemorySource
{
    // Not RandomAccess: an unreadable page is nothing exceptional here, and an exception costs 20 us.
    [LibraryImport("libc", EntryPoint = "pread64")]
    private static partial nint Pread(int descriptor, byte* buffer, nint size, long offset);

    public override int Read(ulong address, Span<byte> buffer)
    {
        if (address > long.MaxValue)
            return 0;

        fixed (byte* start = buffer)
        {
            int done = 0;
            while (done < buffer.Length)
            {
                nint read = Pread(descriptor, start + done, buffer.Length - done, (long)address + done);
                if (read <= 0)
                    break;
                done += (int)read;
            }

            return done;
        }
    }
}

/// <summary>A dump: rows of (start, end, file offset), sorted and disjoint.</summary>
internal sealed class DumpFile(SafeFileHandle file, ulong[] starts, ulong[] ends, ulong[] offsets) : MemorySource
{
    public override int Read(ulong address, Span<byte> buffer)
    {
        int done = 0;
        while (done < buffer.Length)
        {
            ulong at = address + (uint)done;
            int row = Array.BinarySearch(starts, at);
            row = row >= 0 ? row : ~row - 1;
            if (row < 0 || at >= ends[row])
                break;

            int size = (int)Math.Min((ulong)(buffer.Length - done), ends[row] - at);
            int read = RandomAccess.Read(file, buffer.Slice(done, size), (long)(offsets[row] + (at - starts[row])));
            if (read <= 0)
                break;
            done += read;
        }

        return done;
    }
}

/// <summary>A process of Windows.</summary>
internal sealed unsafe partial class WindowsProcess(nint handle) : MemorySource
{
    private const ulong PageSize = 0x1000;

    [LibraryImport("kernel32")]
    private static partial int ReadProcessMemory(nint process, ulong address, byte* buffer, nuint size, nuint* done);

    public override int Read(ulong address, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            nuint read;
            if (ReadProcessMemory(handle, address, start, (nuint)buffer.Length, &read) != 0)
                return (int)read;

            // It is all or nothing by design, so what comes before the bad page is read page by page.
            int done = 0;
            while (done < buffer.Length)
            {
                ulong at = address + (uint)done;
                int size = (int)Math.Min((ulong)(buffer.Length - done), PageSize - at % PageSize);
                if (ReadProcessMemory(handle, at, start + done, (nuint)size, &read) == 0)
                    break;
                done += size;
            }

            return done;
        }
    }
}
