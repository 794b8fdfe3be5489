using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;

/// <summary>Code without a file: emitted, loaded from bytes, in a collectible context, compiled at run time.</summary>
internal static class Program
{
    private static readonly List<object> s_held = new List<object>();

    private static void Main()
    {
        s_held.Add(Emitted.Instance("Emitted", "Run"));
        s_held.Add(Emitted.Instance("EmittedCollectible", "RunAndCollect"));
        s_held.Add(Emitted.DynamicMethod(42));
        byte[] image = File.ReadAllBytes(typeof(Program).Assembly.Location);
        s_held.Add(Guest(Assembly.Load(image)));
        s_held.Add(Guest(InCollectibleContext(image)));
        s_held.Add(System.Linq.Expressions.Expression.Lambda<Func<int>>(
            System.Linq.Expressions.Expression.Constant(7)).Compile());
        foreach (object held in s_held.OfType<Delegate>().ToList())
        {
            s_held.Add(((Delegate)held).DynamicInvoke()!);
        }
        Conversation.Hold();
    }

    private static object Guest(Assembly assembly) => Activator.CreateInstance(assembly.GetType(nameof(Guest), true)!)!;

    /// <summary>By reflection: netstandard2.0 has no AssemblyLoadContext.</summary>
    private static Assembly InCollectibleContext(byte[] image)
    {
        Type type = Type.GetType("System.Runtime.Loader.AssemblyLoadContext, System.Runtime.Loader", true)!;
        object context = Activator.CreateInstance(type, "collectible", true)!;
        s_held.Add(context);
        return (Assembly)type.InvokeMember("LoadFromStream", BindingFlags.InvokeMethod | BindingFlags.Public | BindingFlags.Instance,
            null, context, new object[] { new MemoryStream(image) })!;
    }
}

/// <summary>What the assemblies loaded from bytes are asked for: generics, statics and methods of their own.</summary>
internal sealed class Guest
{
    private static readonly Dictionary<string, Guest> s_guests = new Dictionary<string, Guest>();
    private static int s_count;

    private readonly IEnumerable _pairs;
    private (int, string) _tuple;

    public Guest()
    {
        s_count++;
        _tuple = (s_count, "guest");
        s_guests["guest " + s_count] = this;
        _pairs = new List<KeyValuePair<Guest, int>> { new KeyValuePair<Guest, int>(this, _tuple.Item1) };
    }

    public override string ToString() => _tuple.Item2 + _pairs;
}
