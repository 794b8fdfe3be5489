using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;

/// <summary>One of every shape a type can have.</summary>
internal static class Zoo
{
    public const string Literal = "a literal, frozen where the runtime freezes literals";

    public static object Everything()
    {
        var closure = new List<int> { 1, 2, 3 };
        Func<int> sum = () => closure.Sum();
        return new object[]
        {
            Literal, "Umlaute äöü, 漢字, \U0001F600, \0 inside", string.Empty, new string('z', 5000),
            1, 2L, 3.5f, 4.5, 'c', true, (byte)5, 6.7m, Guid.NewGuid(), new DateTime(1970, 1, 1), TimeSpan.FromHours(1),
            Weekday.Friday, Flags.One | Flags.Four, (int?)8, new Pair<int>(1, 2), new Pair<string>("a", "b"),
            new Box<int>(1), new Box<string>("boxed"), new Box<Pair<string>>(new Pair<string>("x", "y")),
            new Box<int>.Inner<string>("key"), new Derived(), new Explicit { Whole = 0x0102030405060708 }, Buffer(),
            new int[3, 4], new int[2][] { new[] { 1 }, new[] { 2, 3 } }, new[] { new Pair<string>("p", "q") },
            new Weekday[] { Weekday.Monday }, new object?[] { null, "x" }, Array.CreateInstance(typeof(int), new[] { 2 }, new[] { 5 }),
            new Dictionary<string, Pair<long>> { ["k"] = new Pair<long>(1, 2) }, new HashSet<Guid> { Guid.Empty },
            new SortedDictionary<int, List<string>> { [1] = new List<string> { "s" } }, new Queue<(int, string)>(new[] { (1, "t") }),
            (1, "two", 3.0, new object(), 5, 6, 7, 8), new { Anonymous = 1, Name = "n" }, sum, sum + sum,
            (Action<object>)Console.WriteLine, closure.Where(n => n > sum()), typeof(Box<>), typeof(Zoo).Assembly, new Exception("kept"),
            Statics.Values(),
        };
    }

    private static unsafe WithBuffer Buffer() => new WithBuffer((int*)1);

    private enum Weekday : byte
    {
        Monday = 1,
        Friday = 5,
    }

    [Flags]
    private enum Flags : ulong
    {
        One = 1,
        Four = 1UL << 40,
    }

    private struct Pair<T>
    {
        public T First;
        public T Second;

        public Pair(T first, T second)
        {
            First = first;
            Second = second;
        }
    }

    private class Box<T>
    {
        private static readonly List<T> s_all = new List<T>();
        private readonly T _value;

        public Box(T value)
        {
            _value = value;
            s_all.Add(_value);
        }

        public class Inner<TKey>
        {
            public readonly Dictionary<string, T> Values = new Dictionary<string, T>();
            public TKey Key;

            public Inner(TKey key) => Key = key;
        }
    }

    private abstract class Base : IComparable<Base>
    {
        protected readonly object Own = "base";
        private volatile int _number = 1;

        public virtual int CompareTo(Base? other) => _number;
    }

    private sealed class Derived : Base, IDisposable
    {
        private readonly object _own = "derived";

        public void Dispose() => GC.KeepAlive(Own == _own);

        public override int CompareTo(Base? other) => base.CompareTo(other) + 1;
    }

    [StructLayout(LayoutKind.Explicit)]
    private struct Explicit
    {
        [FieldOffset(0)] public ulong Whole;
        [FieldOffset(0)] public uint Low;
        [FieldOffset(4)] public uint High;
    }

    private unsafe struct WithBuffer
    {
        public fixed byte Bytes[32];
        public int* Pointer;

        public WithBuffer(int* pointer) => Pointer = pointer;
    }
}

/// <summary>Statics of every element type.</summary>
internal static class Statics
{
    private static bool s_bool = true;
    private static byte s_byte = 200;
    private static char s_char = 'ß';
    private static double s_double = Math.PI;
    private static int s_int = -5;
    private static long s_long = long.MinValue;
    private static decimal s_decimal = 12.34m;
    private static DateTime s_struct = new DateTime(2001, 2, 3);
    private static (int, string) s_tuple = (1, "in a struct");
    private static string s_string = "static text";
    private static object? s_null = null;
    private static int[] s_array = { 1, 2, 3 };

    public static object?[] Values() => new object?[]
    {
        s_bool, s_byte, s_char, s_double, s_int, s_long, s_decimal, s_struct, s_tuple, s_string, s_null, s_array,
    };
}
