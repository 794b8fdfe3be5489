using System;
using System.Buffers;
using System.Text;
using System.Text.Json;

namespace MiniDumper.Bridge;

/// <summary>Writes the JSON object of an answer.</summary>
internal static class Facts
{
    public static string Write(Action<Utf8JsonWriter> members)
    {
        ArrayBufferWriter<byte> bytes = new();
        using (Utf8JsonWriter writer = new(bytes))
        {
            writer.WriteStartObject();
            members(writer);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }
}
