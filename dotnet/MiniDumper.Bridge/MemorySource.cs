using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace MiniDumper.Bridge;

/// <summary>Where the target's bytes come from; disposing it closes the handles, which are the worker's own.</summary>
internal abstract class MemorySource : IDisposable
{
    /// <summary>A source by its description: <c>handles</c> {memory, copies}, <c>memory</c> as in a session's.</summary>
    /// <param name="description">The description.</param>
    /// <param name="unpack">What unpacks a frame of a compressed dump.</param>
    public static MemorySource Open(JsonElement description, Unpack unpack)
    {
        JsonElement handles = description.GetProperty("handles");
        JsonElement memory = description.GetProperty("memory");
        nint handle = (nint)handles.GetProperty("memory").GetInt64();
        JsonElement table = memory.GetProperty("table");
        MemorySource source = memory.GetProperty("is_process").GetBoolean()
            ? new WindowsProcess(handle)
            : table.GetArrayLength() == 0 ? new AddressSpaceFile((int)handle)
            : DumpFile.Open(ByteFile.Open(handle, memory.GetProperty("frames"), unpack), table);
        return handles.TryGetProperty("copies", out JsonElement copies)
            ? new CopiesFirst(Copies((nint)copies.GetInt64(), memory.GetProperty("copies")), source)
            : source;
    }

    /// <summary>Fills the buffer from an address; returns the bytes before the first that cannot be read.</summary>
    public abstract int Read(ulong address, Span<byte> buffer);

    public abstract void Dispose();

    private static DumpFile Copies(nint handle, JsonElement description) =>
        DumpFile.Open(new PlainFile(handle), description.GetProperty("table"));
}

/// <summary>A file whose offsets are addresses: /proc/PID/mem.</summary>
internal sealed unsafe partial class AddressSpaceFile(int descriptor) : MemorySource
{
    private readonly SafeFileHandle _file = new(descriptor, ownsHandle: true);

    public override void Dispose() => _file.Dispose();

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
internal sealed class DumpFile(ByteFile file, ulong[] starts, ulong[] ends, ulong[] offsets) : MemorySource
{
    /// <summary>A dump by its table's rows.</summary>
    public static DumpFile Open(ByteFile file, JsonElement table)
    {
        int count = table.GetArrayLength();
        (ulong[] starts, ulong[] ends, ulong[] offsets) = (new ulong[count], new ulong[count], new ulong[count]);
        int i = 0;
        foreach (JsonElement row in table.EnumerateArray())
            (starts[i], ends[i], offsets[i++]) = (row[0].GetUInt64(), row[1].GetUInt64(), row[2].GetUInt64());
        return new DumpFile(file, starts, ends, offsets);
    }

    public override void Dispose() => file.Dispose();

    /// <summary>Where the first range above an address begins.</summary>
    public ulong NextStart(ulong address)
    {
        int row = Array.BinarySearch(starts, address + 1);
        row = row >= 0 ? row : ~row;
        return row < starts.Length ? starts[row] : ulong.MaxValue;
    }

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
            int read = file.Read(buffer.Slice(done, size), (long)(offsets[row] + (at - starts[row])));
            if (read <= 0)
                break;
            done += read;
        }

        return done;
    }
}

/// <summary>Copies of some ranges before everything else: what a snapshot by fork does not have.</summary>
internal sealed class CopiesFirst(DumpFile copies, MemorySource rest) : MemorySource
{
    public override void Dispose()
    {
        copies.Dispose();
        rest.Dispose();
    }

    public override int Read(ulong address, Span<byte> buffer)
    {
        int done = 0;
        while (done < buffer.Length)
        {
            ulong at = address + (uint)done;
            int read = copies.Read(at, buffer[done..]);
            if (read == 0)
            {
                int size = (int)Math.Min((ulong)(buffer.Length - done), copies.NextStart(at) - at);
                read = rest.Read(at, buffer.Slice(done, size));
            }

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

    private readonly SafeProcessHandle _process = new(handle, ownsHandle: true);

    public override void Dispose() => _process.Dispose();

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
