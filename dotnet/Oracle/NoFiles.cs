using System.Collections;
using System.Collections.Immutable;
using System.Reflection;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace Oracle;

/// <summary>Sees to it that no byte comes from the files of the dumped process.</summary>
/// <remarks>
/// A locator that finds nothing does not suffice: DataTarget.LoadPEImage then tries the module's own
/// path. What it asks first is its cache of images, so the cache is replaced by one in which every
/// name is known, and known to be no image.
/// </remarks>
internal sealed class NoFiles : IFileLocator
{
    private static readonly FieldInfo s_cache =
        typeof(DataTarget).GetField("_pefileCache", BindingFlags.NonPublic | BindingFlags.Instance)
        ?? throw new MissingFieldException("DataTarget._pefileCache: this ClrMD keeps its images elsewhere");

    public static void HideFrom(DataTarget target)
    {
        var cache = (IDictionary)Activator.CreateInstance(s_cache.FieldType, new AnyName())!;
        cache.Add("", null);
        s_cache.SetValue(target, cache);
    }

    /// <summary>Throws when an image was opened all the same.</summary>
    public static void Check(DataTarget target)
    {
        if (s_cache.GetValue(target) is not IDictionary { Count: 1 } cache || cache[""] is not null)
        {
            throw new InvalidOperationException("ClrMD read a module from its file");
        }
    }

    public string? FindPEImage(string fileName, int buildTimeStamp, int imageSize, bool checkProperties) => null;

    public string? FindPEImage(string fileName, SymbolProperties archivedUnder, ImmutableArray<byte> buildIdOrUUID, OSPlatform originalPlatform, bool checkProperties) => null;

    private sealed class AnyName : IEqualityComparer<string>
    {
        public bool Equals(string? one, string? other) => true;

        public int GetHashCode(string name) => 0;
    }
}
