using System;
using System.Collections.Generic;
using System.Text.Json;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>What is thrown, and where: for those who wait for exceptions of a target that runs.</summary>
internal sealed class Throws(TargetDataReader reader, SosDac sos, ClrRuntime runtime)
{
    private const int MaxInner = 64;

    /// <summary>The runtime's helpers are aligned (ALIGN of its assembler sources).</summary>
    private const int HelperAlignment = 16;

    /// <summary>
    /// The exception at an address, or the one that a thread has not caught; what its types are called, from
    /// its own to System.Object, and what it says. An empty object where there is none.
    /// </summary>
    public Answer Describe(ulong address, uint threadId)
    {
        Flush();
        ClrException? exception = address != 0
            ? runtime.Heap.GetObject(address).AsException()
            : Thread(threadId)?.CurrentException;
        return new Answer(Facts.Write(json => Write(json, exception)), []);
    }

    /// <summary>Where the runtime throws: each JIT helper of `names` in the code of [start, end), as the DAC names them.</summary>
    public Answer Helpers(ulong start, ulong end, HashSet<string> names) => new(
        Facts.Write(json =>
        {
            Flush();
            for (ulong at = start; at < end; at += HelperAlignment)
            {
                if (sos.HelperName(at) is { } name && names.Remove(name))
                    json.WriteNumber(name, at);
            }
        }),
        []);

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
        json.WriteNumber("message_offset", nint.Size + exception.Type.GetFieldByName("_message")?.Offset ?? 0);
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
