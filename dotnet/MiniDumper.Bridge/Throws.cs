using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>What is thrown, and where: for those who wait for exceptions of a target that runs.</summary>
internal sealed class Throws(TargetDataReader reader, SosDac sos, ClrRuntime runtime)
{
    private const int MaxInner = 64;

    /// <summary>Bytes of a Thread that are searched; 10.0 has some 1,500.</summary>
    private const int ThreadSize = 4096;

    /// <summary>The runtime's helpers are aligned (ALIGN of its assembler sources).</summary>
    private const int HelperAlignment = 16;

    /// <summary>
    /// The exception at an address, or the one that a thread has not caught; what its types are called, from
    /// its own to System.Object, and what it says. An empty object where there is none.
    /// </summary>
    public Answer Describe(ulong address, uint threadId)
    {
        Flush();
        ClrThread? thread = address == 0 ? Thread(threadId) : null;
        ClrException? exception = address != 0 ? Exception(address) : thread?.CurrentException;
        return new Answer(Facts.Write(json =>
        {
            Write(json, exception);
            if (thread is not null && exception is not null)
                json.WriteNumber("slot", Slot(thread));
        }), []);
    }

    /// <summary>Where helpers of the JIT begin in [start, end), the runtime's code, by name: those that are native, and named.</summary>
    public Answer Helpers(ulong start, ulong end, IEnumerable<string> names)
    {
        HashSet<string> wanted = [.. names];
        return new Answer(Facts.Write(json =>
        {
            for (ulong at = start; at < end && wanted.Count > 0; at += HelperAlignment)
            {
                if (sos.HelperName(at) is { } name && wanted.Remove(name))
                    json.WriteNumber(name, at);
            }
        }), []);
    }

    /// <summary>
    /// The entry point of RhThrowEx of the core library, which every exception passes from .NET 9 on: 0 until the first
    /// one has made it. Nothing before that version.
    /// </summary>
    public Answer LateSite()
    {
        Flush();
        return new Answer(Facts.Write(json =>
        {
            if (runtime.BaseClassLibrary.GetTypeByName("System.Runtime.EH") is { } throwing)
                json.WriteNumber("address", EntryPoint(throwing, "RhThrowEx"));
        }), []);
    }

    /// <summary>Reads what a reader of the dump will want of an exception, and of those inside it.</summary>
    public static void Read(ClrException? exception)
    {
        for (int depth = 0; exception is not null && depth < MaxInner; depth++)
        {
            _ = exception.Type.Name;
            _ = exception.Message;
            foreach (ClrStackFrame frame in exception.StackTrace)
                _ = frame.Method?.Signature;
            exception = exception.Inner;
        }
    }

    private static void Write(Utf8JsonWriter json, ClrException? exception)
    {
        if (exception is null)
            return;

        json.WriteNumber("address", exception.Address);
        json.WriteNumber("method_table", exception.Type.MethodTable);
        json.WriteString("message", exception.Message ?? "");
        json.WriteNumber("hresult", exception.HResult);
        json.WriteNumber("message_offset", OffsetOf("_message", exception.Type));
        json.WriteNumber("inner_offset", OffsetOf("_innerException", exception.Type));
        json.WriteStartArray("types");
        int depth = 0;
        for (ClrType? type = exception.Type; type is not null && depth < MaxInner; type = type.BaseType, depth++)
            json.WriteStringValue(type.Name);
        json.WriteEndArray();
        json.WriteStartArray("inner");
        depth = 0;
        for (ClrException? inner = exception.Inner; inner is not null && depth < MaxInner; inner = inner.Inner, depth++)
        {
            json.WriteStartArray();
            json.WriteStringValue(inner.Type.Name);
            json.WriteStringValue(inner.Message ?? "");
            json.WriteEndArray();
        }

        json.WriteEndArray();
    }

    /// <summary>Bytes from an object to one of its fields; 0 where it has none of that name.</summary>
    private static int OffsetOf(string field, ClrType type) => nint.Size + type.GetFieldByName(field)?.Offset ?? 0;

    private ulong EntryPoint(ClrType type, string methodName)
    {
        Dictionary<ulong, ulong> entryPoints = sos.EntryPoints(type.MethodTable);
        foreach (ClrMethod method in type.Methods)
        {
            if (method.Name == methodName)
                return entryPoints.GetValueOrDefault(method.MethodDesc);
        }

        return 0;
    }

    private ClrException? Exception(ulong address) =>
        runtime.Heap.GetObject(address) is { IsException: true } thrown ? thrown.AsException() : null;

    /// <summary>
    /// Where a thread keeps the handle of what it threw last: the field that has its value; 0 where that cannot
    /// be told.
    /// </summary>
    private ulong Slot(ClrThread thread)
    {
        if (!sos.Thread(thread.Address, out ThreadData data) || data.LastThrownHandle == 0)
            return 0;

        byte[] bytes = new byte[ThreadSize];
        int size = reader.Read(thread.Address, bytes);
        ReadOnlySpan<ulong> fields = MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan(0, size & ~7));
        int at = fields.IndexOf(data.LastThrownHandle);
        bool single = at >= 0 && at == fields.LastIndexOf(data.LastThrownHandle);
        return single ? thread.Address + ((ulong)at * sizeof(ulong)) : 0;
    }

    private ClrThread? Thread(uint id)
    {
        foreach (ClrThread thread in runtime.Threads)
        {
            if (thread.OSThreadId == id)
                return thread;
        }

        return null;
    }

    private void Flush()
    {
        reader.FlushCachedData();
        runtime.FlushCachedData();
    }
}
