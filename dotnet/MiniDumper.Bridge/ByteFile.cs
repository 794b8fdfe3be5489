// Unpacks a zstd frame at an address, of so many bytes, to another, where there is room for so many.
global using Unpack = System.Action<long, int, long, int>;

using System;
using System.Collections.Generic;
using System.IO;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace MiniDumper.Bridge;

/// <summary>The bytes of a dump's file; disposing it closes the handle, which is the worker's own.</summary>
internal abstract class ByteFile : IDisposable
{
    /// <summary>A file: compressed where there are frames of [start, end, file offset, size].</summary>
    public static ByteFile Open(nint handle, JsonElement frames, Unpack unpack) =>
        frames.GetArrayLength() == 0 ? new PlainFile(handle) : PackedFile.OfFrames(handle, frames, unpack);

    /// <summary>Reads from an offset; the number of bytes, fewer only at the end.</summary>
    public abstract int Read(Span<byte> buffer, long offset);

    public abstract void Dispose();
}

/// <summary>A file as it is.</summary>
internal sealed class PlainFile(nint handle) : ByteFile
{
    private readonly SafeFileHandle _file = new(handle, ownsHandle: true);

    public override int Read(Span<byte> buffer, long offset) => RandomAccess.Read(_file, buffer, offset);

    public override void Dispose() => _file.Dispose();
}

/// <summary>A file of independent frames, unpacked when they are read; the last ones are kept.</summary>
internal sealed unsafe class PackedFile(nint handle, long[] starts, (long End, long Offset, int Size)[] frames, Unpack unpack)
    : ByteFile
{
    private const int MaxKept = 32; // of 2 MB each

    private readonly SafeFileHandle _file = new(handle, ownsHandle: true);
    private readonly Dictionary<int, byte[]> _kept = [];
    private readonly Queue<int> _order = [];
    private int _last = -1;
    private byte[] _lastFrame = [];

    public static PackedFile OfFrames(nint handle, JsonElement rows, Unpack unpack)
    {
        int count = rows.GetArrayLength();
        (long[] starts, (long, long, int)[] frames) = (new long[count], new (long, long, int)[count]);
        int i = 0;
        foreach (JsonElement row in rows.EnumerateArray())
            (starts[i], frames[i++]) = (row[0].GetInt64(), (row[1].GetInt64(), row[2].GetInt64(), row[3].GetInt32()));
        return new PackedFile(handle, starts, frames, unpack);
    }

    public override int Read(Span<byte> buffer, long offset)
    {
        int done = 0;
        while (done < buffer.Length)
        {
            int index = Array.BinarySearch(starts, offset + done);
            index = index >= 0 ? index : ~index - 1;
            if (index < 0 || offset + done >= frames[index].End)
                break;

            ReadOnlySpan<byte> rest = Frame(index).AsSpan((int)(offset + done - starts[index]));
            rest = rest[..Math.Min(rest.Length, buffer.Length - done)];
            rest.CopyTo(buffer[done..]);
            done += rest.Length;
        }

        return done;
    }

    public override void Dispose() => _file.Dispose();

    private byte[] Frame(int index)
    {
        if (index == _last)
            return _lastFrame;

        if (!_kept.TryGetValue(index, out byte[]? frame))
        {
            frame = Unpacked(index);
            _kept.Add(index, frame);
            _order.Enqueue(index);
            if (_order.Count > MaxKept)
                _kept.Remove(_order.Dequeue());
        }

        (_last, _lastFrame) = (index, frame);
        return frame;
    }

    private byte[] Unpacked(int index)
    {
        (long end, long offset, int size) = frames[index];
        byte[] packed = new byte[size];
        if (RandomAccess.Read(_file, packed, offset) != size)
            throw new EndOfStreamException("the compressed dump was cut while it was read");

        byte[] frame = new byte[end - starts[index]];
        fixed (byte* from = packed, to = frame)
            unpack((long)from, size, (long)to, frame.Length);
        return frame;
    }
}
