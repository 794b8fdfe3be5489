using System;
using System.Collections.Generic;
using System.Reflection;
using System.Threading;

/// <summary>Mass for each kind of GC segment.</summary>
internal static class Heap
{
    private const int Megabyte = 1024 * 1024;

    private static long s_written;

    /// <summary>How many records <see cref="Write"/> has written to.</summary>
    public static long Written => Volatile.Read(ref s_written);

    /// <summary>Linked records of about 128 bytes each, their text included.</summary>
    public static object Small(int megabytes)
    {
        Record? last = null;
        for (int i = megabytes * (Megabyte / 128); i > 0; i--)
        {
            last = new Record(last, i);
        }
        return last ?? new object();
    }

    /// <summary>Arrays that go to the large object heap: bytes, references, and one that is all zero.</summary>
    public static object Large(int megabytes)
    {
        var arrays = new List<object>();
        for (int i = 0; i < megabytes; i++)
        {
            byte[] bytes = new byte[Megabyte / 2];
            new Random(i).NextBytes(bytes);
            arrays.Add(bytes);
            object[] references = new object[Megabyte / 32];
            references[i] = bytes;
            arrays.Add(references);
            arrays.Add(new byte[Megabyte / 4]);
        }
        return arrays;
    }

    /// <summary>Arrays on the pinned object heap (.NET 5 and newer), elsewhere plain ones.</summary>
    public static object Pinned(int megabytes)
    {
        MethodInfo? allocate = typeof(GC).GetMethod("AllocateArray")?.MakeGenericMethod(typeof(byte));
        var arrays = new List<Array>();
        for (int i = 0; i < megabytes * 16; i++)
        {
            byte[] bytes = (byte[]?)allocate?.Invoke(null, new object[] { Megabyte / 16, true }) ?? new byte[Megabyte / 16];
            bytes[i] = 1;
            arrays.Add(bytes);
        }
        return arrays;
    }

    /// <summary>Writes to each of the records, over and over, in a thread of its own.</summary>
    public static string Write(object records)
    {
        new Thread(() =>
        {
            while (true)
            {
                for (var record = records as Record; record != null; record = record.Touch())
                {
                    Volatile.Write(ref s_written, s_written + 1);
                }
            }
        }) { IsBackground = true }.Start();
        return "writing";
    }

    private sealed class Record
    {
        private readonly Record? _next;
        private readonly string _text;
        private long _number;

        public Record(Record? next, int number)
        {
            _next = next;
            _number = number;
            _text = "record " + number + (_next?._number > 0 ? " of a list" : "");
        }

        public Record? Touch()
        {
            _number++;
            return _next;
        }

        public override string ToString() => _text;
    }
}
