using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// A COM object of ours that the DAC calls. It lives as long as the process, as the DAC does.
/// </summary>
internal sealed unsafe class ComCallable
{
    private const int NoInterface = unchecked((int)0x80004002);
    private static readonly Guid s_unknown = new("00000000-0000-0000-C000-000000000046");

    private readonly Dictionary<Guid, nint> _interfaces = [];

    /// <param name="owner">What <see cref="Owner{T}"/> gives back inside the functions.</param>
    /// <param name="iid">The interface that the functions make up.</param>
    /// <param name="functions">The functions from slot 3 on.</param>
    public ComCallable(object owner, Guid iid, params ReadOnlySpan<nint> functions)
    {
        nint* table = (nint*)NativeMemory.Alloc((nuint)(functions.Length + 3), (nuint)sizeof(nint));
        table[0] = (nint)(delegate* unmanaged<nint*, Guid*, nint*, int>)&QueryInterface;
        table[1] = table[2] = (nint)(delegate* unmanaged<nint*, uint>)&KeepReference;
        functions.CopyTo(new Span<nint>(table + 3, functions.Length));

        nint* self = (nint*)NativeMemory.Alloc(3, (nuint)sizeof(nint));
        self[0] = (nint)table;
        self[1] = GCHandle.ToIntPtr(GCHandle.Alloc(owner));
        self[2] = GCHandle.ToIntPtr(GCHandle.Alloc(this));
        Pointer = (nint)self;
        Serve(s_unknown, Pointer);
        Serve(iid, Pointer);
    }

    /// <summary>The interface pointer.</summary>
    public nint Pointer { get; }

    /// <summary>The owner of the object whose function is being called.</summary>
    public static T Owner<T>(nint* self)
        where T : class => (T)GCHandle.FromIntPtr(self[1]).Target!;

    /// <summary>Answers QueryInterface for one more interface.</summary>
    public void Serve(Guid iid, nint pointer) => _interfaces[iid] = pointer;

    [UnmanagedCallersOnly]
    private static int QueryInterface(nint* self, Guid* iid, nint* found)
    {
        ComCallable callable = (ComCallable)GCHandle.FromIntPtr(self[2]).Target!;
        *found = callable._interfaces.GetValueOrDefault(*iid);
        return *found != 0 ? 0 : NoInterface;
    }

    [UnmanagedCallersOnly]
    private static uint KeepReference(nint* self) => 1;
}
