using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

/// <summary>A C heap of some size, and methods that are compiled anew, and assemblies loaded, when asked for.</summary>
/// <remarks>"DOTNET_TC_CallCountingDelayMs=0" makes a method be compiled anew after 30 calls, whatever else goes on.</remarks>
internal static class Program
{
    private const int Calls = 100;
    private const int AtOnce = 20;
    private const int BlockSize = 200;

    private static readonly List<object> s_held = new List<object>();
    private static readonly byte[] s_image = File.ReadAllBytes(typeof(Program).Assembly.Location);
    private static readonly Queue<Func<int>> s_methods = new Queue<Func<int>>(Methods(typeof(Pair<,>)));
    private static readonly Queue<Func<int>> s_collectible = new Queue<Func<int>>(Methods(Collectible().GetType("Pair`2", true)!));

    private static void Main(string[] words)
    {
        int blocks = new Options(words).Number("--native-mb", 0) * (1 << 20) / BlockSize;
        Fill(blocks);
        var thread = new Thread(() => Fill(blocks));
        thread.Start();
        thread.Join();
        // Once now: what code of the framework tells of itself stays in its files where it is new (its GC info).
        Promote(s_methods);
        Promote(s_collectible);
        Load();
        Conversation.Hold(word => word switch
        {
            "promote" => (Promote(s_methods) + Promote(s_collectible)).ToString(),
            "load" => Load(),
            _ => null,
        });
    }

    /// <summary>Many small blocks, those of one thread in one arena of malloc.</summary>
    private static void Fill(int blocks)
    {
        for (int i = 0; i < blocks; i++)
        {
            Marshal.WriteIntPtr(Marshal.AllocHGlobal(BlockSize), new IntPtr(i));
        }
    }

    private static int Promote(Queue<Func<int>> methods)
    {
        int sum = 0;
        for (int i = 0; i < AtOnce; i++)
        {
            Func<int> method = methods.Dequeue();
            s_held.Add(method);
            for (int call = 0; call < Calls; call++)
            {
                sum += method();
            }
        }
        return sum;
    }

    private static string Load()
    {
        Assembly assembly = Assembly.Load(s_image);
        s_held.Add(Activator.CreateInstance(assembly.GetType(nameof(Guest), true)!)!);
        return assembly.GetName().Name!;
    }

    /// <summary>By reflection: netstandard2.0 has no AssemblyLoadContext.</summary>
    private static Assembly Collectible()
    {
        Type type = Type.GetType("System.Runtime.Loader.AssemblyLoadContext, System.Runtime.Loader", true)!;
        object context = Activator.CreateInstance(type, "collectible", true)!;
        s_held.Add(context);
        return (Assembly)type.InvokeMember("LoadFromStream", BindingFlags.InvokeMethod | BindingFlags.Public | BindingFlags.Instance,
            null, context, new object[] { new MemoryStream(s_image) })!;
    }

    private static IEnumerable<Func<int>> Methods(Type pair)
    {
        Type[] types =
        {
            typeof(bool), typeof(byte), typeof(sbyte), typeof(short), typeof(ushort), typeof(int), typeof(uint),
            typeof(long), typeof(ulong), typeof(char), typeof(float), typeof(double), typeof(decimal), typeof(Guid),
        };
        return from first in types
               from second in types
               let type = pair.MakeGenericType(first, second)
               let method = type.GetMethod("Sizes")!
               select (Func<int>)Delegate.CreateDelegate(typeof(Func<int>), method);
    }
}

/// <summary>Each of its instances over values has code of its own.</summary>
internal static class Pair<TFirst, TSecond>
    where TFirst : struct
    where TSecond : struct
{
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static int Sizes() => NameLength<TFirst>() + NameLength<TSecond>();

    private static int NameLength<T>() => typeof(T).Name.Length;
}

/// <summary>What an assembly loaded from bytes is asked for.</summary>
internal sealed class Guest
{
}
