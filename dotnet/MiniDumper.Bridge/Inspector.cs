using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection.Metadata;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>Reads a dump as ClrMD and SOS do, and tells what they would not find.</summary>
internal sealed unsafe class Inspector(
    TargetDataReader reader, SosDac sos, StackWalk stacks, ClrRuntime runtime)
{
    private const int ObjectsBetweenReports = 100_000;
    private const int VisitsBetweenFlushes = 5000;
    private const int MaxProblems = 100;
    private const int MaxMissing = 10_000;

    private readonly List<string> _problems = [];
    private readonly Dictionary<string, long> _counts = [];
    private readonly HashSet<ulong> _types = [];
    private readonly Replay _replay = new(reader, sos, runtime);
    private List<MissingRead> _missing = [];

    private Action<string, long, long>? _progress;

    public Answer Run(Action<string, long, long>? progress)
    {
        _progress = progress;
        _problems.Clear();
        _counts.Clear();
        _types.Clear();
        reader.FlushCachedData();
        runtime.FlushCachedData();
        _replay.Clear();
        MissingReads missing = reader.Missing = new MissingReads();
        try
        {
            _replay.ScanStacks(missing);
            Step("dumpheap -stat", Objects);
            Step("clrstack -a", Threads);
            Step("dumpmodule", Modules);
            foreach ((string command, Action read) in _replay.Commands())
                Step(command, read);
            Step("dumpmt -md", Types);
            Count();
        }
        finally
        {
            reader.Missing = null;
        }

        // Code and IL stay in the modules' files; what a dump must have of them is checked above.
        ModuleImages images = new(runtime, sos);
        _missing = missing.Distinct(read => images.Contains(read.Address));
        _counts["missing_reads"] = _missing.Count;
        return new Answer(Describe(), []);
    }

    private void Step(string stage, Action step)
    {
        reader.Missing!.Command = stage;
        _progress?.Invoke(stage, 0, 0);
        try
        {
            step();
        }
        catch (Exception error) when (error is not OutOfMemoryException)
        {
            Problem($"{stage}: {error.Message}");
        }
    }

    private void Objects()
    {
        ClrHeap heap = runtime.Heap;
        if (!sos.GcStructuresValid())
            Problem("the heap cannot be walked: a garbage collection was at work");

        long total = heap.Segments.Sum(segment => (long)segment.Length);
        (long objects, long unknown, long done) = (0, 0, 0);
        foreach (ClrSegment segment in heap.Segments)
        {
            int missing = reader.Missing!.Count;
            foreach (ClrObject item in segment.EnumerateObjects())
            {
                // Where the header of free space would be lie leftovers. Windows' DAC takes them for the index
                // of a sync block, and looks for that far behind the end of their table.
                if (item.IsFree)
                    reader.Missing.CutTo(missing);
                missing = reader.Missing.Count;
                if (++objects % ObjectsBetweenReports == 0)
                    _progress?.Invoke("dumpheap -stat", done + (long)(item.Address - segment.Start), total);
                _replay.See(item);
                if (!IsKnown(item.Type))
                {
                    unknown++;
                    bool unfinished = runtime.DataTarget.DataReader.ReadPointer(item.Address) == 0;
                    Problem($"0x{item.Address:x}: an object without a type" + (unfinished ? ": a thread was just making it" : ""));
                }
            }

            done += (long)segment.Length;
        }

        _counts["objects"] = objects;
        _counts["unknown_objects"] = unknown;
        _counts["types"] = _types.Count;
    }

    private bool IsKnown(ClrType? type)
    {
        if (type is null || type.MethodTable == 0)
            return false;

        return !_types.Add(type.MethodTable) || !string.IsNullOrEmpty(sos.NameOf(type));
    }

    private void Threads()
    {
        (long threads, long frames) = (0, 0);
        stacks.Reset();
        foreach (ClrThread thread in runtime.Threads.Where(thread => thread.IsAlive))
        {
            threads++;
            int own = 0;
            foreach (ClrStackFrame frame in thread.EnumerateStackTrace())
            {
                own++;
                if (frame.StackPointer != 0) // else ClrMD's one frame for a thread that has none
                    frames++;
                if (!IsWhole(frame))
                    Problem($"thread {thread.OSThreadId}: no name or GC info for the method at 0x{frame.InstructionPointer:x}");
            }

            if (own == 0)
                Problem($"thread {thread.OSThreadId} does not unwind");
            stacks.Walk(thread.OSThreadId);
            _ = thread.CurrentException?.Message;
        }

        _counts["threads"] = threads;
        _counts["frames"] = frames;
    }

    /// <summary>
    /// Whether a frame's method has its name and its GC info, from which its roots are found; native code
    /// has neither. Stubs that the runtime compiles have names from the DAC alone, and a precode, which jumps
    /// to its method's code, has no GC info: a thread held at the throw of native code stands at one. The roots
    /// themselves are not walked: in the middle of an exception's dispatch that crashes the DAC.
    /// </summary>
    private bool IsWhole(ClrStackFrame frame)
    {
        if (!sos.CodeHeader(frame.InstructionPointer, out CodeHeaderData code) || code.MethodDesc == 0)
            return true;

        bool named = !string.IsNullOrEmpty(frame.Method?.Signature) || sos.MethodDescName(code.MethodDesc);
        return named && (code.GcInfo == 0 || reader.Read(code.GcInfo, out byte _));
    }

    private void Modules()
    {
        long modules = 0;
        foreach (ClrModule module in runtime.EnumerateModules())
        {
            modules++;
            sos.Image(module.Address);
            sos.Assembly(module.AppDomain.Address, module.AssemblyAddress);
            if (module.MetadataLength > 0 && !HasMetadata(module))
                Problem($"{module.Name}: its metadata cannot be read");
        }

        _counts["modules"] = modules;
    }

    private bool HasMetadata(ClrModule module)
    {
        byte[] bytes = new byte[module.MetadataLength];
        if (reader.Read(module.MetadataAddress, bytes) != bytes.Length)
            return false;

        fixed (byte* start = bytes)
        {
            try
            {
                return new MetadataReader(start, bytes.Length).TypeDefinitions.Count > 0;
            }
            catch (BadImageFormatException)
            {
                return false;
            }
        }
    }

    /// <summary>What SOS reads of the types: of all that are loaded, and of those of all objects.</summary>
    private void Types()
    {
        TypeWalk walk = new(reader, sos, new ModuleImages(runtime, sos));
        walk.SetThreads(runtime.Threads.Select(thread => thread.Address).ToArray());
        foreach (ClrModule module in runtime.EnumerateModules())
        {
            foreach ((ulong methodTable, int _) in module.EnumerateTypeDefToMethodTableMap())
                walk.Add(methodTable);
        }

        foreach (ulong methodTable in _types)
            walk.Add(methodTable);
        int flushed = 0;
        while (walk.VisitNext())
        {
            if (walk.Types + walk.Methods - flushed < VisitsBetweenFlushes)
                continue;
            flushed = walk.Types + walk.Methods;
            _progress?.Invoke("dumpmt -md", walk.Types, 0);
            reader.FlushCachedData();
            runtime.FlushCachedData();
        }

        _counts["methods"] = walk.Methods;
    }

    private void Count()
    {
        _counts["handles"] = runtime.EnumerateHandles().Count();
        _counts["finalizable"] = runtime.Heap.EnumerateFinalizableObjects().Count();
        _counts["sync_blocks"] = sos.SyncBlocks(Deadline.None);
    }

    private void Problem(string text)
    {
        if (_problems.Count < MaxProblems)
            _problems.Add(text);
    }

    private string Describe() => Facts.Write(json =>
    {
        json.WriteStartObject("counts");
        foreach ((string name, long count) in _counts)
            json.WriteNumber(name, count);
        json.WriteEndObject();
        json.WriteStartArray("problems");
        foreach (string problem in _problems)
            json.WriteStringValue(problem);
        json.WriteEndArray();
        json.WriteStartArray("missing");
        foreach ((ulong address, int size, string command) in _missing.Take(MaxMissing))
        {
            json.WriteStartArray();
            json.WriteNumberValue(address);
            json.WriteNumberValue(size);
            json.WriteStringValue(command);
            json.WriteEndArray();
        }

        json.WriteEndArray();
    });
}
