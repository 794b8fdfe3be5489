using System;
using System.Collections.Generic;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>Where the images of managed modules lie that have a file.</summary>
internal sealed class ModuleImages
{
    private readonly ulong[] _starts;
    private readonly ulong[] _ends;

    public ModuleImages(ClrRuntime runtime, SosDac sos)
    {
        SortedDictionary<ulong, ulong> images = [];
        foreach (ClrModule module in runtime.EnumerateModules())
        {
            ImageData image = sos.Image(module.Address);
            if (image.IsInMemory == 0 && image.IsDynamic == 0 && image.Size > 0)
                images[image.Address] = image.Address + image.Size;
        }

        _starts = [.. images.Keys];
        _ends = [.. images.Values];
    }

    /// <summary>Whether such an image has something at an address.</summary>
    public bool Contains(ulong address)
    {
        int row = Array.BinarySearch(_starts, address);
        row = row >= 0 ? row : ~row - 1;
        return row >= 0 && address < _ends[row];
    }
}
