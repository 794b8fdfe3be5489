using System;

namespace MiniDumper.Guardian.Debugging;

/// <summary>Methods of COM interfaces, called by their slots: all that there is of COM on Linux.</summary>
internal static unsafe class Com
{
    public static int Call(void* self, int slot) => ((delegate* unmanaged<void*, int>)Slot(self, slot))(self);

    public static int Call(void* self, int slot, void* argument) =>
        ((delegate* unmanaged<void*, void*, int>)Slot(self, slot))(self, argument);

    public static int Call(void* self, int slot, int number) =>
        ((delegate* unmanaged<void*, int, int>)Slot(self, slot))(self, number);

    /// <summary>The same object by another interface; null where it has none.</summary>
    public static void* Query(void* self, Guid interfaceId)
    {
        void* found = null;
        return ((delegate* unmanaged<void*, Guid*, void**, int>)Slot(self, 0))(self, &interfaceId, &found) < 0 ? null : found;
    }

    public static void Release(void* self)
    {
        if (self != null)
            Call(self, 2);
    }

    public static void* Slot(void* self, int slot) => (*(void***)self)[slot];
}
