using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// The target's own data access component: IXCLRDataProcess and the interfaces beside it
/// (xclrdata.idl, clrdata.idl and sospriv.idl of dotnet/runtime).
/// </summary>
internal sealed unsafe class Dac : ComObject
{
    private const int ProcessAttach = 1; // DLL_PROCESS_ATTACH, winnt.h
    private const int FlushSlot = 3;
    private static readonly Guid s_dataProcess = new("5c552ab6-fc09-4cb3-8e36-22fa03c798b7");

    private Dac(nint process)
        : base(process)
    {
    }

    /// <summary>The IXCLRDataProcess.</summary>
    public nint Process => Self;

    /// <summary>Loads the file, which stays loaded, and makes its one instance.</summary>
    /// <exception cref="DllNotFoundException">The file cannot be loaded.</exception>
    /// <exception cref="BadImageFormatException">The file is for another processor.</exception>
    /// <exception cref="COMException">The DAC refuses the target.</exception>
    public static Dac Load(string path, DacTarget target)
    {
        nint library = NativeLibrary.Load(path);
        // Outside Windows nobody calls it, and the DAC's platform layer starts in it.
        if (!OperatingSystem.IsWindows())
            ((delegate* unmanaged<nint, int, nint, int>)NativeLibrary.GetExport(library, "DllMain"))(library, ProcessAttach, 0);

        nint create = NativeLibrary.GetExport(library, "CLRDataCreateInstance");
        Guid iid = s_dataProcess;
        nint process = 0;
        int result = ((delegate* unmanaged<Guid*, nint, nint*, int>)create)(&iid, target.Pointer, &process);
        Marshal.ThrowExceptionForHR(result, -1);
        return new Dac(process);
    }

    /// <summary>Forgets everything read so far: the target has run.</summary>
    public void Flush() => ((delegate* unmanaged<nint, int>)this[FlushSlot])(Self);
}
