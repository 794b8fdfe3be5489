using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Guardian.Debugging;

/// <summary>What the runtime tells its debugger, which continues the process, or leaves it to be continued.</summary>
internal unsafe interface IDebugEvents
{
    void OnAttached(void* process);

    /// <param name="type">CorDebugExceptionCallbackType, cordebug.idl.</param>
    void OnException(void* thread, int type);

    void OnOutput(void* thread, string text);

    void OnOther();
}

/// <summary>
/// The object that ICorDebug calls (cordebug.idl, ICorDebugManagedCallback to 4): its fields are the tables of
/// methods of four interfaces. One a process, as it lives.
/// </summary>
internal static unsafe class ManagedCallback
{
    private const int NoInterface = unchecked((int)0x80004002); // E_NOINTERFACE
    private const int OwnSlots = 3; // IUnknown

    private static readonly (Guid Id, int Methods)[] s_interfaces =
    [
        (new("3d6f5f60-7538-11d3-8d5b-00104b35e7ef"), 26),
        (new("250E5EEA-DB5C-4C76-B6F3-8C46F12E3203"), 8),
        (new("264EA0FC-2591-49AA-868E-835E6515323F"), 1),
        (new("322911AE-16A5-49BA-84A3-ED69678138A3"), 3),
    ];

    private static IDebugEvents s_events = null!;
    private static void** s_object;

    public static void* Create(IDebugEvents events)
    {
        s_events = events;
        s_object = (void**)NativeMemory.Alloc((nuint)(s_interfaces.Length * sizeof(void*)));
        for (int i = 0; i < s_interfaces.Length; i++)
        {
            int slots = OwnSlots + s_interfaces[i].Methods;
            void** table = (void**)NativeMemory.Alloc((nuint)(slots * sizeof(void*)));
            new Span<nint>(table, slots).Fill((nint)(delegate* unmanaged<void*, int>)&Other);
            table[0] = (delegate* unmanaged<void*, Guid*, void**, int>)&QueryInterface;
            table[1] = table[2] = (delegate* unmanaged<void*, int>)&Count;
            s_object[i] = table;
        }

        void** first = (void**)s_object[0];
        first[9] = (delegate* unmanaged<void*, void*, int>)&CreateProcess;
        first[18] = (delegate* unmanaged<void*, void*, void*, int, char*, char*, int>)&LogMessage;
        ((void**)s_object[1])[7] = (delegate* unmanaged<void*, void*, void*, void*, int, int, int, int>)&Exception;
        return s_object;
    }

    [UnmanagedCallersOnly]
    private static int QueryInterface(void* self, Guid* id, void** found)
    {
        Guid wanted = *id;
        int index = wanted == new Guid("00000000-0000-0000-C000-000000000046") ? 0 : Array.FindIndex(s_interfaces, each => each.Id == wanted);
        *found = index < 0 ? null : s_object + index;
        return index < 0 ? NoInterface : 0;
    }

    [UnmanagedCallersOnly]
    private static int Count(void* self) => 1;

    [UnmanagedCallersOnly]
    private static int CreateProcess(void* self, void* process)
    {
        s_events.OnAttached(process);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int LogMessage(void* self, void* domain, void* thread, int level, char* category, char* text)
    {
        s_events.OnOutput(thread, new string(text));
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int Exception(void* self, void* domain, void* thread, void* frame, int offset, int type, int flags)
    {
        s_events.OnException(thread, type);
        return 0;
    }

    /// <summary>Stands for every other method, whatever its arguments: the caller takes them off (System V ABI).</summary>
    [UnmanagedCallersOnly]
    private static int Other(void* self)
    {
        s_events.OnOther();
        return 0;
    }
}
