using System;
using System.IO;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace MiniDumper.Bridge;

/// <summary>ICLRDataTarget and ICLRRuntimeLocator over our reader (clrdata.idl of dotnet/runtime).</summary>
internal sealed unsafe class DacTarget
{
    private const int Ok = 0;
    private const int Failed = unchecked((int)0x80004005);
    private const int NotImplemented = unchecked((int)0x80004001);

    // IMAGE_FILE_MACHINE_AMD64 and _ARM64, winnt.h.
    private const uint MachineAmd64 = 0x8664;
    private const uint MachineArm64 = 0xAA64;

    private static readonly Guid s_dataTarget = new("3E11CCEE-D08B-43e5-AF01-32717A64DA03");
    private static readonly Guid s_runtimeLocator = new("b760bf44-9377-4597-8be7-58083bdc5146");

    private readonly TargetDataReader _reader;
    private readonly ulong _runtimeBase;

    public DacTarget(TargetDataReader reader, ulong runtimeBase)
    {
        _reader = reader;
        _runtimeBase = runtimeBase;
        nint none = (nint)(delegate* unmanaged<int>)&NotServed;
        ComCallable target = new(
            this,
            s_dataTarget,
            (nint)(delegate* unmanaged<nint*, uint*, int>)&GetMachineType,
            (nint)(delegate* unmanaged<nint*, uint*, int>)&GetPointerSize,
            (nint)(delegate* unmanaged<nint*, char*, ulong*, int>)&GetImageBase,
            (nint)(delegate* unmanaged<nint*, ulong, byte*, uint, uint*, int>)&ReadVirtual,
            none, // WriteVirtual
            none, // GetTLSValue
            none, // SetTLSValue
            none, // GetCurrentThreadID
            (nint)(delegate* unmanaged<nint*, uint, uint, uint, byte*, int>)&GetThreadContext,
            none, // SetThreadContext
            none); // Request
        ComCallable locator = new(
            this, s_runtimeLocator, (nint)(delegate* unmanaged<nint*, ulong*, int>)&GetRuntimeBase);
        target.Serve(s_runtimeLocator, locator.Pointer);
        Pointer = target.Pointer;
    }

    /// <summary>The ICLRDataTarget to create the DAC with.</summary>
    public nint Pointer { get; }

    [UnmanagedCallersOnly]
    private static int NotServed() => NotImplemented;

    [UnmanagedCallersOnly]
    private static int GetMachineType(nint* self, uint* machine)
    {
        *machine = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? MachineArm64 : MachineAmd64;
        return Ok;
    }

    [UnmanagedCallersOnly]
    private static int GetPointerSize(nint* self, uint* size)
    {
        *size = (uint)sizeof(nint);
        return Ok;
    }

    [UnmanagedCallersOnly]
    private static int GetImageBase(nint* self, char* path, ulong* found)
    {
        string wanted = Path.GetFileName(new string(path));
        foreach (ModuleInfo module in ComCallable.Owner<DacTarget>(self)._reader.EnumerateModules())
        {
            if (Path.GetFileName(module.FileName).Equals(wanted, StringComparison.OrdinalIgnoreCase))
            {
                *found = module.ImageBase;
                return Ok;
            }
        }

        return Failed;
    }

    [UnmanagedCallersOnly]
    private static int ReadVirtual(nint* self, ulong address, byte* buffer, uint size, uint* done)
    {
        int read = ComCallable.Owner<DacTarget>(self)._reader.Read(address, new Span<byte>(buffer, (int)size));
        if (done is not null)
            *done = (uint)read;
        return read > 0 || size == 0 ? Ok : Failed;
    }

    [UnmanagedCallersOnly]
    private static int GetThreadContext(nint* self, uint thread, uint flags, uint size, byte* context) =>
        ComCallable.Owner<DacTarget>(self)._reader.GetThreadContext(thread, flags, new Span<byte>(context, (int)size))
            ? Ok
            : Failed;

    [UnmanagedCallersOnly]
    private static int GetRuntimeBase(nint* self, ulong* found)
    {
        *found = ComCallable.Owner<DacTarget>(self)._runtimeBase;
        return Ok;
    }
}
