using Microsoft.Diagnostics.Runtime;

namespace Oracle;

/// <summary>Every type that a module has loaded and every type of an object, with its members.</summary>
internal static class Types
{
    private static List<ClrType>? s_known;

    public static void All(Report report, ClrRuntime runtime) => Each(report, runtime, type =>
        report.Line($"{type.MethodTable:x} {type.Name} token {type.MetadataToken:x} base {type.BaseType?.MethodTable:x} element {type.ElementType} component {type.ComponentType?.MethodTable:x}+{type.ComponentSize} size {type.StaticSize} attributes {(int)type.TypeAttributes:x} finalizable {type.IsFinalizable} collectible {type.IsCollectible} shared {type.IsShared} context {type.AssemblyLoadContextAddress:x} module {type.Module?.Address:x} interfaces {string.Join(',', type.EnumerateInterfaces().Select(i => i.Name))} generic {string.Join(',', type.EnumerateGenericParameters().Select(p => p.Name))}"));

    public static void Fields(Report report, ClrRuntime runtime) => Each(report, runtime, type =>
    {
        IEnumerable<ClrField> fields = type.Fields.Cast<ClrField>().Concat(type.StaticFields).Concat(type.ThreadStaticFields);
        Members(report, type, fields, f =>
            $"{f.Token:x} {f.Name} {f.Type?.Name} {f.ElementType} offset {f.Offset} size {f.Size} attributes {(int)f.Attributes:x}");
    });

    public static void Methods(Report report, ClrRuntime runtime) => Each(report, runtime, type =>
        Members(report, type, type.Methods, m =>
            $"{m.MetadataToken:x} {m.Signature} {m.MethodDesc:x} attributes {(int)m.Attributes:x} {m.CompilationType} code {m.NativeCode:x} hot {m.HotColdInfo.HotStart:x}+{m.HotColdInfo.HotSize:x} cold {m.HotColdInfo.ColdStart:x}+{m.HotColdInfo.ColdSize:x} map {IlMap(m)}"));

    public static void Statics(Report report, ClrRuntime runtime)
    {
        ClrAppDomain domain = runtime.AppDomains[0];
        Each(report, runtime, type =>
        {
            foreach (ClrStaticField field in type.StaticFields)
            {
                Value(report, runtime, $"{type.Name}.{field.Name}", field, field.GetAddress(domain), () => field.ReadObject(domain));
            }
        });
    }

    public static void ThreadStatics(Report report, ClrRuntime runtime) => Each(report, runtime, type =>
    {
        foreach (ClrThreadStaticField field in type.ThreadStaticFields)
        {
            foreach (ClrThread thread in runtime.Threads.Where(t => t.IsAlive))
            {
                Value(report, runtime, $"{type.Name}.{field.Name} of {thread.OSThreadId}", field, field.GetAddress(thread), () => field.ReadObject(thread));
            }
        }
    });

    public static void Nameless(Report report, ClrRuntime runtime) => Each(report, runtime, type =>
    {
        if (string.IsNullOrEmpty(type.Name) || type.Name.Contains("<Unloaded") || type.Name.Contains("UNKNOWN"))
        {
            report.Line($"{type.MethodTable:x} {type.Name}");
        }
    });

    private static void Value(Report report, ClrRuntime runtime, string name, ClrField field, ulong address, Func<ClrObject> read)
    {
        if (address == 0)
        {
            return;
        }
        string value = Memory.Bytes(runtime, address, field.Size);
        if (field.IsObjectReference)
        {
            ClrObject obj = read();
            value += $" {obj.Address:x} {obj.Type?.Name}";
        }
        report.Line($"{name} {address:x} {value}");
    }

    /// <summary>A line a type: how many members it has and a hash of them; with --list the members too.</summary>
    private static void Members<T>(Report report, ClrType type, IEnumerable<T> members, Func<T, string> describe)
    {
        using var hash = new RunningHash();
        int count = 0;
        foreach (T member in members)
        {
            report.Guard($"{type.Name} member {count}", () =>
            {
                string text = describe(member);
                hash.Add(text);
                if (report.List)
                {
                    report.Line($"    {text}");
                }
            });
            count++;
        }
        report.Line($"{type.MethodTable:x} {type.Name} {count} {hash}");
    }

    private static void Each(Report report, ClrRuntime runtime, Action<ClrType> write)
    {
        foreach (ClrType type in s_known ??= Known(runtime))
        {
            report.Guard($"type {type.MethodTable:x} {type.Name}", () => write(type));
        }
    }

    private static List<ClrType> Known(ClrRuntime runtime)
    {
        IEnumerable<ClrType?> ofModules = runtime.EnumerateModules()
            .SelectMany(m => m.EnumerateTypeDefToMethodTableMap())
            .Select(t => runtime.GetTypeByMethodTable(t.MethodTable));
        // Not that of free space: it has no module and no members, and the DAC crashes when asked for them.
        IEnumerable<ClrType?> ofObjects = runtime.Heap.EnumerateObjects().Where(o => !o.IsFree).Select(o => o.Type);
        return ofModules.Concat(ofObjects).OfType<ClrType>().DistinctBy(t => t.MethodTable).OrderBy(t => t.MethodTable).ToList();
    }

    /// <summary>Of the code that the method shows only: ClrMD gives that of any version, also of one in an image, which no heap dump holds.</summary>
    private static string IlMap(ClrMethod method)
    {
        ulong start = method.HotColdInfo.HotStart, end = start + method.HotColdInfo.HotSize;
        return method.CompilationType == MethodCompilationType.Ngen
            ? "in the image"
            : string.Join(' ', method.ILOffsetMap.Where(i => i.StartAddress >= start && i.StartAddress < end).Select(i => $"{i.ILOffset:x}:{i.StartAddress:x}"));
    }
}
