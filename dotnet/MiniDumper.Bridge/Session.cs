using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Text.Json;
using Microsoft.Diagnostics.Runtime;
using Microsoft.Win32.SafeHandles;

namespace MiniDumper.Bridge;

/// <summary>What a command gives: a JSON object, and bytes beside it.</summary>
/// <param name="Json">The facts.</param>
/// <param name="Data">Packed columns; empty for commands that have none.</param>
public sealed record Answer(string Json, byte[] Data);

/// <summary>One target with its DAC. All commands run on the thread that opened it.</summary>
public sealed class Session
{
    private readonly TargetDataReader _reader;
    private readonly Dac _dac;
    private readonly ClrRuntime _runtime;
    private readonly Collector _collector;

    /// <summary>Opens the target's memory and loads its DAC, which stays loaded.</summary>
    /// <param name="arguments">
    /// A JSON object: <c>memory</c> {descriptor, is_process, table of [start, end, offset]}, <c>pid</c>,
    /// <c>modules</c> of [path, start, end], <c>runtime</c> {path, start, end, version}, <c>dac</c> (a path)
    /// and <c>skip</c> (names of steps to leave out).
    /// </param>
    public Session(string arguments)
    {
        using JsonDocument document = JsonDocument.Parse(arguments);
        JsonElement root = document.RootElement;
        JsonElement runtime = root.GetProperty("runtime");
        TargetModule runtimeModule = Module(
            runtime.GetProperty("path"), runtime.GetProperty("start"), runtime.GetProperty("end"));
        List<ModuleInfo> modules = [runtimeModule];
        foreach (JsonElement row in root.GetProperty("modules").EnumerateArray())
            modules.Add(Module(row[0], row[1], row[2]));

        _reader = new TargetDataReader(OpenMemory(root.GetProperty("memory"), root.GetProperty("handles").GetProperty("memory")), root.GetProperty("pid").GetInt32(), modules);
        _dac = Dac.Load(root.GetProperty("dac").GetString()!, new DacTarget(_reader, runtimeModule.ImageBase));
        HashSet<string> skip = [];
        foreach (JsonElement name in root.GetProperty("skip").EnumerateArray())
            skip.Add(name.GetString()!);

        DataTarget target = new(_reader, new DataTargetOptions { SkipRuntimeEnumeration = true, SymbolPaths = [] });
        ClrInfo info = new(target, runtimeModule, Version.Parse(runtime.GetProperty("version").GetString()!))
        {
            Flavor = Path.GetFileName(runtimeModule.FileName).Equals("clr.dll", StringComparison.OrdinalIgnoreCase)
                ? ClrFlavor.Desktop
                : ClrFlavor.Core,
        };
        _runtime = target.AddLoadedRuntime(info, _dac.Process).CreateRuntime();
        _collector = new Collector(_reader, _dac, _runtime, skip);
    }

    /// <summary>Loads every assembly that the bridge can come to need: later their files may be closed to us.</summary>
    public static void Preload()
    {
        HashSet<string> seen = [];
        Stack<Assembly> rest = new([typeof(Session).Assembly]);
        while (rest.TryPop(out Assembly? assembly))
        {
            foreach (AssemblyName name in assembly.GetReferencedAssemblies())
            {
                // ClrMD refers to Azure's client for symbol servers, which we neither use nor ship.
                if (seen.Add(name.FullName) && TryLoad(name) is Assembly loaded)
                    rest.Push(loaded);
            }
        }
    }

    /// <summary>Runs a command.</summary>
    /// <param name="command">
    /// <c>collect</c> {minimal, committed, threads}: what the stopped target's CLR side needs, as columns of
    /// starts (u64), ends (u64) and reasons (u32).
    /// </param>
    /// <param name="arguments">A JSON object.</param>
    /// <param name="data">Address of bytes: the threads' CONTEXT structures, one after the other.</param>
    /// <param name="size">Bytes there.</param>
    public Answer Run(string command, string arguments, long data, int size)
    {
        using JsonDocument document = JsonDocument.Parse(arguments);
        JsonElement root = document.RootElement;
        SetContexts(root.GetProperty("threads"), data, size);
        return _collector.Collect(root.GetProperty("minimal").GetBoolean(), root.GetProperty("committed").GetBoolean());
    }

    private static Assembly? TryLoad(AssemblyName name)
    {
        try
        {
            return Assembly.Load(name);
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static TargetModule Module(JsonElement path, JsonElement start, JsonElement end) =>
        new(path.GetString()!, start.GetUInt64(), end.GetUInt64());

    private static MemorySource OpenMemory(JsonElement memory, JsonElement handle)
    {
        nint descriptor = (nint)handle.GetInt64();
        if (memory.GetProperty("is_process").GetBoolean())
            return new WindowsProcess(descriptor);

        JsonElement table = memory.GetProperty("table");
        int count = table.GetArrayLength();
        if (count == 0)
            return new AddressSpaceFile((int)descriptor);

        (ulong[] starts, ulong[] ends, ulong[] offsets) = (new ulong[count], new ulong[count], new ulong[count]);
        int i = 0;
        foreach (JsonElement row in table.EnumerateArray())
            (starts[i], ends[i], offsets[i++]) = (row[0].GetUInt64(), row[1].GetUInt64(), row[2].GetUInt64());
        return new DumpFile(new SafeFileHandle(descriptor, ownsHandle: false), starts, ends, offsets);
    }

    private unsafe void SetContexts(JsonElement threads, long contexts, int size)
    {
        int count = threads.GetArrayLength();
        Dictionary<uint, byte[]> byThread = new(count);
        ReadOnlySpan<byte> rest = new((void*)contexts, size);
        foreach (JsonElement thread in threads.EnumerateArray())
        {
            byThread[thread.GetUInt32()] = rest[..(size / count)].ToArray();
            rest = rest[(size / count)..];
        }

        _reader.SetContexts(byThread);
    }
}
