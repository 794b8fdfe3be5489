using System;
using System.Linq;
using System.Reflection.Metadata;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>The assemblies that a target has loaded, with the versions in their metadata.</summary>
internal static class Assemblies
{
    private const string ProductVersion = "AssemblyInformationalVersionAttribute";

    /// <summary>More is no metadata: that of the largest assemblies has some ten megabytes.</summary>
    private const ulong MaxMetadata = 1 << 26;

    /// <summary>Rows of [path, base, version of the assembly, version of the product]; "" where there is none.</summary>
    public static Answer List(ClrRuntime runtime, TargetDataReader reader) => new(
        Facts.Write(json =>
        {
            json.WriteStartArray("rows");
            foreach (ClrModule module in runtime.EnumerateModules())
            {
                (string version, string product) = VersionsOf(module, reader);
                json.WriteStartArray();
                json.WriteStringValue(module.Name ?? "");
                json.WriteNumberValue(module.ImageBase);
                json.WriteStringValue(version);
                json.WriteStringValue(product);
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }),
        []);

    private static unsafe (string Version, string Product) VersionsOf(ClrModule module, TargetDataReader reader)
    {
        if (module.MetadataLength is 0 or > MaxMetadata)
            return ("", "");
        byte[] metadata = new byte[module.MetadataLength];
        if (reader.Read(module.MetadataAddress, metadata) != metadata.Length)
            return ("", "");
        try
        {
            fixed (byte* start = metadata)
            {
                MetadataReader assembly = new(start, metadata.Length);
                return assembly.IsAssembly
                    ? ($"{assembly.GetAssemblyDefinition().Version}", ProductOf(assembly))
                    : ("", "");
            }
        }
        catch (Exception error) when (error is not OutOfMemoryException) // a damaged dump
        {
            return ("", "");
        }
    }

    private static string ProductOf(MetadataReader assembly) => assembly.GetAssemblyDefinition().GetCustomAttributes()
        .Select(assembly.GetCustomAttribute)
        .Where(attribute => TypeOf(attribute, assembly) == ProductVersion)
        .Select(attribute =>
        {
            BlobReader value = assembly.GetBlobReader(attribute.Value);
            return value.ReadUInt16() == 1 ? value.ReadSerializedString() : null; // ECMA-335, II.23.3
        })
        .FirstOrDefault() ?? "";

    /// <summary>Its name; in the library that defines these attributes it is one of its own types.</summary>
    private static string TypeOf(CustomAttribute attribute, MetadataReader assembly)
    {
        EntityHandle type = attribute.Constructor.Kind == HandleKind.MethodDefinition
            ? assembly.GetMethodDefinition((MethodDefinitionHandle)attribute.Constructor).GetDeclaringType()
            : assembly.GetMemberReference((MemberReferenceHandle)attribute.Constructor).Parent;
        return type.Kind switch
        {
            HandleKind.TypeDefinition => assembly.GetString(assembly.GetTypeDefinition((TypeDefinitionHandle)type).Name),
            HandleKind.TypeReference => assembly.GetString(assembly.GetTypeReference((TypeReferenceHandle)type).Name),
            _ => "",
        };
    }
}
