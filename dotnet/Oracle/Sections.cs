using Microsoft.Diagnostics.Runtime;

namespace Oracle;

/// <summary>The sections in the order in which they are printed.</summary>
internal static class Sections
{
    /// <summary>Printed only when asked for: the DAC can crash in it, and what stands before must not be lost.</summary>
    public const string Roots = "stack-roots";

    /// <param name="skip">Threads (system ids) whose stack roots are not walked.</param>
    public static IEnumerable<(string Name, Action<Report, ClrRuntime> Write)> All(IReadOnlySet<uint> skip) =>
    [
        ("runtime", Process.Runtime),
        ("app-domains", Process.AppDomains),
        ("modules", Process.Modules),
        ("native-heaps", Process.NativeHeaps),
        ("threads", Threads.List),
        ("stacks", Threads.Stacks),
        ("exceptions", Threads.Exceptions),
        ("thread-pool", Threads.Pool),
        ("segments", Heap.Segments),
        ("heap", Heap.ByType),
        ("objects", Heap.Objects),
        ("strings", Heap.Strings),
        ("references", Heap.References),
        ("handles", Heap.Handles),
        ("finalizer-queue", Heap.Finalizers),
        ("sync-blocks", Heap.SyncBlocks),
        ("types", Types.All),
        ("fields", Types.Fields),
        ("methods", Types.Methods),
        ("statics", Types.Statics),
        ("thread-statics", Types.ThreadStatics),
        ("nameless-types", Types.Nameless),
        (Roots, (report, runtime) => Threads.StackRoots(report, runtime, skip)),
    ];
}
