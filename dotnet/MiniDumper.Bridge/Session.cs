using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>What a command gives: a JSON object, and bytes beside it.</summary>
/// <param name="Json">The facts.</param>
/// <param name="Data">Packed columns; empty for commands that have none.</param>
public sealed record Answer(string Json, byte[] Data);

/// <summary>One target with its DAC. All commands run on the thread that opened it.</summary>
public sealed class Session
{
    private readonly TargetDataReader _reader;
    private readonly Collector _collector;
    private readonly Rehearsal _rehearsal;
    private readonly SosDac _sos;
    private readonly Inspector _inspector;
    private readonly Throws _throws;
    private readonly ClrRuntime _runtime;
    private readonly bool _rehearses;
    private readonly Unpack _unpack;

    /// <summary>Opens the target's memory and loads its DAC, which stays loaded.</summary>
    /// <param name="arguments">
    /// A JSON object: <c>handles</c> {memory, copies}, <c>memory</c> {is_process, table of [start, end,
    /// offset], frames of [start, end, offset, size], copies {table}}, <c>pid</c>, <c>modules</c> of [path, start, end], <c>runtime</c> {path,
    /// start, end, version}, <c>dac</c> (a path) and <c>skip</c> (names of steps to leave out: stacks,
    /// rehearsal).
    /// </param>
    /// <param name="unpack">What unpacks a frame of a compressed dump.</param>
    public Session(string arguments, Unpack unpack)
    {
        _unpack = unpack;
        using JsonDocument document = JsonDocument.Parse(arguments);
        JsonElement root = document.RootElement;
        JsonElement description = root.GetProperty("runtime");
        TargetModule clr = new(
            description.GetProperty("path").GetString()!,
            description.GetProperty("start").GetUInt64(),
            description.GetProperty("end").GetUInt64());
        IEnumerable<TargetModule> modules = root.GetProperty("modules").EnumerateArray()
            .Select(row => new TargetModule(row[0].GetString()!, row[1].GetUInt64(), row[2].GetUInt64()));
        HashSet<string> skip = [.. root.GetProperty("skip").EnumerateArray().Select(name => name.GetString()!)];

        _reader = new TargetDataReader(MemorySource.Open(root, unpack), root.GetProperty("pid").GetInt32(), modules);
        Dac dac = Dac.Load(root.GetProperty("dac").GetString()!, new DacTarget(_reader, clr.ImageBase));
        _runtime = CreateRuntime(clr, Version.Parse(description.GetProperty("version").GetString()!), dac);
        _sos = new SosDac(dac);
        StackWalk stacks = new(dac, _sos, _reader);
        _collector = new Collector(_reader, _sos, stacks, _runtime, new RegionEnumerator(dac), skip);
        _rehearsal = new Rehearsal(_reader, _sos, _runtime);
        _inspector = new Inspector(_reader, _sos, stacks, _runtime);
        _throws = new Throws(_reader, _sos, _runtime);
        _rehearses = !skip.Contains("rehearsal");
    }

    /// <summary>Told of long commands a stage, how much of it is done, and how much there is (0: unknown).</summary>
    public Action<string, long, long>? Progress { get; set; }

    /// <summary>
    /// Loads what the bridge refers to, at first and second hand, and what ClrMD itself does: later these
    /// files may be closed to us. And compiles the bridge: the first stop is the one that counts.
    /// </summary>
    public static void Preload()
    {
        LoadReferences();
        const BindingFlags all = BindingFlags.DeclaredOnly | BindingFlags.Instance | BindingFlags.Static
            | BindingFlags.Public | BindingFlags.NonPublic;
        foreach (Type type in typeof(Session).Assembly.GetTypes())
        {
            foreach (MethodInfo method in type.GetMethods(all))
            {
                bool foreign = method.Attributes.HasFlag(MethodAttributes.PinvokeImpl); // of another system, too
                if (!method.IsAbstract && !method.ContainsGenericParameters && !foreign)
                    RuntimeHelpers.PrepareMethod(method.MethodHandle);
            }
        }
    }

    /// <summary>Runs a command; its arguments are a JSON object.</summary>
    /// <param name="command">
    /// <c>open</c> {}: it is open.
    /// <c>attach</c> {handles, memory}: read the same process from somewhere else from now on.
    /// <c>rehearse</c> {seconds, threads}: walk all that SOS reads of the running target, and keep its pages.
    /// <c>collect</c> {minimal, committed, thrown, data, memory, files, threads}: what the stopped target's CLR side needs, as
    /// columns of starts (u64), ends (u64) and reasons (u32).
    /// <c>inspect</c> {threads}: what readers would not find in a dump: counts, and problems.
    /// <c>exception</c> {address, thread}: the exception at an address, else that of a thread.
    /// <c>helpers</c> {start, end, names}: where the JIT's helpers of these names begin.
    /// <c>late_throw_site</c> {}: an address that exceptions pass, once there was one.
    /// <c>assemblies</c> {}: rows of [path, base, version of the assembly, version of the product].
    /// <c>heapstat</c> {}: rows of [type, module, generation, count, bytes].
    /// </param>
    /// <param name="arguments">The JSON object.</param>
    /// <param name="data">Address of bytes: where there are threads, their CONTEXT structures.</param>
    /// <param name="size">How many bytes.</param>
    /// <exception cref="ArgumentException">There is no such command.</exception>
    public Answer Run(string command, string arguments, long data, int size)
    {
        using JsonDocument document = JsonDocument.Parse(arguments);
        JsonElement root = document.RootElement;
        switch (command)
        {
            case "open":
                return new Answer("{}", []);
            case "attach":
                _reader.SwitchTo(MemorySource.Open(root, _unpack));
                return new Answer("{}", []);
            case "rehearse":
                _reader.SetContexts(Contexts(root.GetProperty("threads"), data, size));
                return Rehearse(root.GetProperty("seconds").GetDouble());
            case "collect":
                _reader.SetContexts(Contexts(root.GetProperty("threads"), data, size));
                return _collector.Collect(
                    root.GetProperty("minimal").GetBoolean(),
                    root.GetProperty("committed").GetBoolean(),
                    root.GetProperty("thrown").GetUInt64(),
                    Surroundings.Parse(root));
            case "inspect":
                _reader.SetContexts(Contexts(root.GetProperty("threads"), data, size));
                return _inspector.Run(Progress);
            case "exception":
                return _throws.Describe(root.GetProperty("address").GetUInt64(), root.GetProperty("thread").GetUInt32());
            case "helpers":
                return _throws.Helpers(
                    root.GetProperty("start").GetUInt64(),
                    root.GetProperty("end").GetUInt64(),
                    root.GetProperty("names").EnumerateArray().Select(name => name.GetString()!));
            case "late_throw_site":
                return _throws.LateSite();
            case "assemblies":
                return Assemblies.List(_runtime, _reader);
            case "heapstat":
                _reader.FlushCachedData();
                _runtime.FlushCachedData();
                return HeapStatistics.Run(_runtime.Heap, _sos, Progress);
            default:
                throw new ArgumentException($"there is no command {command}", nameof(command));
        }
    }

    private Answer Rehearse(double seconds)
    {
        _collector.Rehearsed = null;
        _rehearsal.Step(() => _collector.WarmUp());
        RegionBuffer kept = new();
        Answer answer = _rehearsal.Run(_rehearses ? seconds : 0, kept, Progress);
        _collector.Rehearsed = kept;
        return answer;
    }

    private ClrRuntime CreateRuntime(TargetModule clr, Version version, Dac dac)
    {
        DataTarget target = new(_reader, new DataTargetOptions { SkipRuntimeEnumeration = true, SymbolPaths = [] });
        ClrInfo info = new(target, clr, version)
        {
            Flavor = Path.GetFileName(clr.FileName).Equals("clr.dll", StringComparison.OrdinalIgnoreCase)
                ? ClrFlavor.Desktop
                : ClrFlavor.Core,
        };
        return target.AddLoadedRuntime(info, dac.Process).CreateRuntime();
    }

    private static unsafe Dictionary<uint, byte[]> Contexts(JsonElement threads, long data, int size)
    {
        int count = threads.GetArrayLength();
        Dictionary<uint, byte[]> contexts = new(count);
        ReadOnlySpan<byte> rest = new((void*)data, size);
        foreach (JsonElement thread in threads.EnumerateArray())
        {
            contexts[thread.GetUInt32()] = rest[..(size / count)].ToArray();
            rest = rest[(size / count)..];
        }

        return contexts;
    }

    private static void LoadReferences()
    {
        HashSet<string> seen = [];
        Stack<Assembly> rest = new([typeof(Session).Assembly]);
        while (rest.TryPop(out Assembly? assembly))
        {
            foreach (AssemblyName name in assembly.GetReferencedAssemblies())
            {
                if (seen.Add(name.FullName) && TryLoad(name) is { } loaded && assembly != typeof(ClrRuntime).Assembly)
                    rest.Push(loaded);
            }
        }
    }

    /// <summary>An assembly; null for those of symbol servers and the like, which are not shipped.</summary>
    private static Assembly? TryLoad(AssemblyName name)
    {
        try
        {
            return Assembly.Load(name);
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }
}
