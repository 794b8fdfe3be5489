using System;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>A module as the parent found it: ClrMD's own kinds would look for files.</summary>
internal sealed class TargetModule(string path, ulong start, ulong end) : ModuleInfo(start, path)
{
    public override ModuleKind Kind =>
        OperatingSystem.IsWindows() ? ModuleKind.PortableExecutable : ModuleKind.Elf;

    protected override long ImageSizeCore => (long)(end - ImageBase);
}
