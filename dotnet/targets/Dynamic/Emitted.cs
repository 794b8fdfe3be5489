using System;
using System.Reflection;

/// <summary>Reflection.Emit, called by reflection: netstandard2.0 has none, every runtime does.</summary>
internal static class Emitted
{
    private static readonly Type s_assemblyBuilder = Type.GetType("System.Reflection.Emit.AssemblyBuilder, System.Reflection.Emit", true)!;
    private static readonly Type s_access = Type.GetType("System.Reflection.Emit.AssemblyBuilderAccess, System.Reflection.Emit", true)!;
    private static readonly Type s_dynamicMethod = Type.GetType("System.Reflection.Emit.DynamicMethod, System.Reflection.Emit.Lightweight", true)!;
    private static readonly Type s_opCodes = Type.GetType("System.Reflection.Emit.OpCodes, System.Reflection.Primitives", true)!;

    /// <summary>An object of a type that was emitted: two fields, a static one, and a method that was called.</summary>
    public static object Instance(string name, string access)
    {
        object assembly = s_assemblyBuilder.InvokeMember("DefineDynamicAssembly",
            BindingFlags.InvokeMethod | BindingFlags.Public | BindingFlags.Static, null, null,
            new object[] { new AssemblyName(name), Enum.Parse(s_access, access) })!;
        object module = Call(assembly, "DefineDynamicModule", name);
        object builder = Call(module, "DefineType", name + ".Point", TypeAttributes.Public);
        Call(builder, "DefineField", "X", typeof(int), FieldAttributes.Public);
        Call(builder, "DefineField", "Name", typeof(string), FieldAttributes.Public);
        Call(builder, "DefineField", "Origin", typeof(object), FieldAttributes.Public | FieldAttributes.Static);
        object method = Call(builder, "DefineMethod", "Answer", MethodAttributes.Public, typeof(int), Type.EmptyTypes);
        EmitReturn(Call(method, "GetILGenerator"), 42);
        Type type = ((TypeInfo)Call(builder, "CreateTypeInfo")).AsType();
        object instance = Activator.CreateInstance(type)!;
        type.GetField("Name")!.SetValue(instance, "emitted");
        type.GetField("Origin")!.SetValue(null, instance);
        Call(instance, "Answer");
        return instance;
    }

    /// <summary>A delegate of a method that belongs to no type.</summary>
    public static Delegate DynamicMethod(int answer)
    {
        object method = Activator.CreateInstance(s_dynamicMethod, "Dynamic", typeof(int), Type.EmptyTypes)!;
        EmitReturn(Call(method, "GetILGenerator"), answer);
        return (Delegate)Call(method, "CreateDelegate", typeof(Func<int>));
    }

    private static void EmitReturn(object generator, int value)
    {
        Call(generator, "Emit", s_opCodes.GetField("Ldc_I4")!.GetValue(null)!, value);
        Call(generator, "Emit", s_opCodes.GetField("Ret")!.GetValue(null)!);
    }

    private static object Call(object target, string method, params object[] arguments) =>
        target.GetType().InvokeMember(method, BindingFlags.InvokeMethod | BindingFlags.Public | BindingFlags.Instance,
            null, target, arguments)!;
}
