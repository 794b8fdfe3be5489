using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Threading;

namespace MiniDumper.Guardian.Debugging;

/// <summary>A process whose debugger we are (ICorDebug, cordebug.idl; numbers are slots of its interfaces).</summary>
internal sealed unsafe class DebuggedProcess
{
    private const int DebuggerVersion = 4; // CorDebugVersion_4_0, cordebug.idl
    private const int LoadReason = 1; // DLL_PROCESS_ATTACH

    private static readonly Guid s_corDebug = new("3d6f5f61-7538-11d3-8d5b-00104b35e7ef");
    private static readonly Guid s_process8 = new("2E6F28C1-85EB-4141-80AD-0A90944B9639");
    private static readonly Guid s_referenceValue = new("CC7BCAF9-8A68-11d2-983C-0000F808342D");

    private static readonly ManualResetEventSlim s_attached = new(); // one a process, as its callback is

    private volatile void* _process;

    /// <summary>Becomes its debugger, with the libmscordbi that lies beside its runtime; an HRESULT.</summary>
    /// <param name="folder">That of the runtime.</param>
    /// <param name="runtime">The address of libcoreclr in the process.</param>
    public int Attach(int pid, string folder, ulong runtime, IDebugEvents events, int milliseconds)
    {
        nint library = NativeLibrary.Load(Path.Combine(folder, "libmscordbi.so"));
        _ = ((delegate* unmanaged<nint, int, nint, int>)NativeLibrary.GetExport(library, "DllMain"))(library, LoadReason, 0);
        var create = (delegate* unmanaged<int, int, char*, char*, ulong, void**, int>)NativeLibrary.GetExport(library, "CoreCLRCreateCordbObject3");
        void* created = null;
        int result;
        fixed (char* access = Path.Combine(folder, "libmscordaccore.so"))
            result = create(DebuggerVersion, pid, null, access, runtime, &created);
        if (result < 0)
            return result;

        void* debugger = Com.Query(created, s_corDebug);
        void* process = null;
        if ((result = Com.Call(debugger, 3)) < 0 // Initialize
            || (result = Com.Call(debugger, 5, ManagedCallback.Create(events))) < 0 // SetManagedHandler
            || (result = ((delegate* unmanaged<void*, int, int, void**, int>)Com.Slot(debugger, 8))(debugger, pid, 0, &process)) < 0) // DebugActiveProcess
            return result;

        // Bytes of a second debugger would make the runtime end its side for good. It makes new ones afterwards.
        foreach (string pipe in Directory.GetFiles(Path.GetTempPath(), $"clr-debug-pipe-{pid}-*"))
            File.Delete(pipe);
        return s_attached.Wait(milliseconds) ? 0 : unchecked((int)0x80131C08); // CORDBG_E_TIMEOUT
    }

    /// <summary>To be called at its first event: it is to tell debug output, and exceptions of all code.</summary>
    public void Begin(void* process)
    {
        _process = process;
        _ = Com.Call(process, 24, 1); // EnableLogMessages
        void* process8 = Com.Query(process, s_process8);
        _ = Com.Call(process8, 3, 1); // EnableExceptionCallbacksOutsideOfMyCode
        Com.Release(process8);
        s_attached.Set();
    }

    /// <summary>Lets it run on from an event.</summary>
    public void Continue() => Com.Call(_process, 4, 0);

    /// <summary>Reads memory; whether all of it was there.</summary>
    public bool Read(ulong address, void* buffer, int size)
    {
        nuint done = 0;
        int result = ((delegate* unmanaged<void*, ulong, int, void*, nuint*, int>)Com.Slot(_process, 21))(_process, address, size, buffer, &done);
        return result >= 0 && (int)done == size;
    }

    public static int ThreadId(void* thread)
    {
        int id = 0;
        _ = Com.Call(thread, 4, &id);
        return id;
    }

    /// <summary>The address of the exception that a thread throws; 0 for none.</summary>
    public static ulong Thrown(void* thread)
    {
        void* value = null;
        if (Com.Call(thread, 10, &value) < 0 || value == null) // GetCurrentException
            return 0;
        void* reference = Com.Query(value, s_referenceValue);
        ulong address = 0;
        if (reference != null)
            _ = Com.Call(reference, 8, &address); // GetValue
        Com.Release(reference);
        Com.Release(value);
        return address;
    }
}
