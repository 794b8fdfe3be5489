using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// An interface of the DAC, called by slot: COM of the DAC has the same binary form on every system.
/// A call is true where it succeeds.
/// </summary>
internal unsafe class ComObject(nint pointer)
{
    /// <summary>The interface pointer, with one reference that is ours.</summary>
    protected nint Self { get; } = pointer;

    /// <summary>The function in a slot of the virtual table; slots 0 to 2 are IUnknown's.</summary>
    protected nint this[int slot] => (*(nint**)Self)[slot];

    /// <summary>Another interface of the same object; null where it has none.</summary>
    public ComObject? Query(Guid iid)
    {
        nint found = 0;
        int result = ((delegate* unmanaged<nint, Guid*, nint*, int>)this[0])(Self, &iid, &found);
        return result >= 0 && found != 0 ? new ComObject(found) : null;
    }

    /// <summary>The same interface by its pointer, for those that wrap it themselves.</summary>
    /// <exception cref="NotSupportedException">The object has no such interface.</exception>
    public nint Require(Guid iid) =>
        Query(iid)?.Self ?? throw new NotSupportedException($"the DAC has no interface {iid}");

    public bool Get(int slot, void* result) =>
        ((delegate* unmanaged<nint, void*, int>)this[slot])(Self, result) >= 0;

    public bool Get(int slot, ulong argument, void* result) =>
        ((delegate* unmanaged<nint, ulong, void*, int>)this[slot])(Self, argument, result) >= 0;

    public bool Get(int slot, ulong argument, void* result, void* second) =>
        ((delegate* unmanaged<nint, ulong, void*, void*, int>)this[slot])(Self, argument, result, second) >= 0;

    public bool Get(int slot, ulong first, ulong second, void* result) =>
        ((delegate* unmanaged<nint, ulong, ulong, void*, int>)this[slot])(Self, first, second, result) >= 0;

    public bool Get(int slot, ulong first, ulong second, void* result, void* other) =>
        ((delegate* unmanaged<nint, ulong, ulong, void*, void*, int>)this[slot])(Self, first, second, result, other) >= 0;

    public bool Get(int slot, ulong first, ulong second, void* list, int count, int* needed) =>
        ((delegate* unmanaged<nint, ulong, ulong, void*, int, int*, int>)this[slot])(
            Self, first, second, list, count, needed) >= 0;

    /// <summary>A private request without input.</summary>
    public bool Request(int slot, uint code, void* result, int size) =>
        ((delegate* unmanaged<nint, uint, int, void*, int, void*, int>)this[slot])(Self, code, 0, null, size, result) >= 0;

    /// <summary>Whether a call gives S_OK, as enumerators do until they end with S_FALSE.</summary>
    public bool Advance(int slot) => ((delegate* unmanaged<nint, int>)this[slot])(Self) == 0;

    /// <summary>An object that a call hands out; null where it fails.</summary>
    public ComObject? Child(int slot)
    {
        nint found = 0;
        return Get(slot, &found) && found != 0 ? new ComObject(found) : null;
    }

    /// <summary>An object that a call hands out for an argument; null where it fails.</summary>
    public ComObject? Child(int slot, ulong argument)
    {
        nint found = 0;
        return Get(slot, argument, &found) && found != 0 ? new ComObject(found) : null;
    }

    /// <summary>A numbered object that a call hands out together with its name; null where it fails.</summary>
    public ComObject? Member(int slot, uint index, uint nameLength, void* name)
    {
        nint found = 0;
        int result = ((delegate* unmanaged<nint, uint, nint*, uint, uint*, void*, int>)this[slot])(
            Self, index, &found, nameLength, null, name);
        return result >= 0 && found != 0 ? new ComObject(found) : null;
    }

    /// <summary>The name of a type by its token, from a call that tells its flags and its parent too.</summary>
    public bool TypeName(int slot, int token, int nameLength, void* name)
    {
        uint needed, flags, parent;
        return ((delegate* unmanaged<nint, int, void*, int, uint*, uint*, uint*, int>)this[slot])(
            Self, token, name, nameLength, &needed, &flags, &parent) >= 0;
    }

    /// <summary>Gives the reference back.</summary>
    public void Release() => Marshal.Release(Self);

    /// <summary>
    /// Gives back the reference to an object that nobody else has. A DAC deletes some of them at one release
    /// more than there were references (DefaultCOMImpl::Release of dacimpl.h, dotnet/runtime).
    /// </summary>
    public void ReleaseLast()
    {
        while (Marshal.Release(Self) > 0)
        {
        }
    }
}
