using System.Linq;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>Where the images of managed modules lie that have a file.</summary>
internal sealed class ModuleImages(ClrRuntime runtime, SosDac sos)
{
    private readonly AddressRanges _images = new(runtime.EnumerateModules()
        .Select(module => sos.Image(module.Address))
        .Where(image => image.IsInMemory == 0 && image.IsDynamic == 0 && image.Size > 0)
        .Select(image => ((ulong)image.Address, (ulong)(image.Address + image.Size)))
        .Distinct());

    /// <summary>Whether such an image has something at an address.</summary>
    public bool Contains(ulong address) => _images.Contains(address);
}
