using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

// The structures of dacprivate.h (dotnet/runtime), which its own static_asserts freeze; only the fields
// that we look at have names.

/// <summary>DacpMethodTableData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x48)]
internal struct MethodTableData
{
    [FieldOffset(0)] public int IsFree;
    [FieldOffset(8)] public ulong Module;
    [FieldOffset(24)] public ulong Parent;
    [FieldOffset(34)] public ushort MethodCount;
    [FieldOffset(40)] public uint BaseSize;
    [FieldOffset(44)] public uint ComponentSize;
}

/// <summary>DacpMethodTableFieldData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x18)]
internal struct MethodTableFields
{
    [FieldOffset(0)] public ushort InstanceCount;
    [FieldOffset(2)] public ushort StaticCount;
    [FieldOffset(4)] public ushort ThreadStaticCount;
    [FieldOffset(8)] public ulong First;
}

/// <summary>DacpFieldDescData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x40)]
internal struct FieldData
{
    [FieldOffset(8)] public ulong Type;
    [FieldOffset(56)] public ulong Next;
}

/// <summary>DacpMethodDescData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x98)]
internal struct MethodDescData
{
    [FieldOffset(0)] public int HasNativeCode;
    [FieldOffset(16)] public ulong NativeCode;
    [FieldOffset(40)] public ulong MethodTable;
    [FieldOffset(48)] public ulong Module;
    [FieldOffset(56)] public uint Token;
    [FieldOffset(96)] public ulong RejitId;
}

/// <summary>DacpCodeHeaderData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x38)]
internal struct CodeHeaderData
{
    [FieldOffset(0)] public ulong GcInfo;
    [FieldOffset(16)] public ulong MethodDesc;
    [FieldOffset(32)] public uint Size;

    /// <summary>Bytes that SOS reads of the GC info: no table is longer (strike.cpp, dotnet/diagnostics).</summary>
    public readonly ulong GcInfoSize => 40 + 2UL * Size;
}

/// <summary>DacpThreadData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x68)]
internal struct ThreadData
{
    [FieldOffset(4)] public uint OsId;
    [FieldOffset(64)] public ulong FirstNestedException;
    [FieldOffset(88)] public ulong LastThrownHandle;
}

/// <summary>DacpTieredVersionData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x18)]
internal struct TieredVersion
{
    [FieldOffset(0)] public ulong NativeCode;
}

/// <summary>DacpGetModuleData.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x38)]
internal struct ImageData
{
    [FieldOffset(0)] public int IsDynamic;
    [FieldOffset(4)] public int IsInMemory;
    [FieldOffset(24)] public ulong Address;
    [FieldOffset(32)] public ulong Size;
    [FieldOffset(40)] public ulong PdbAddress;
    [FieldOffset(48)] public ulong PdbSize;
}

/// <summary>SOSMethodData (sospriv.idl).</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x28)]
internal struct MethodSlot
{
    [FieldOffset(0)] public ulong MethodDesc;
    [FieldOffset(8)] public ulong EntryPoint;
}

/// <summary>SOSMemoryRegion (sospriv.idl).</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x20)]
internal struct MemoryRegion
{
    [FieldOffset(0)] public ulong Start;
    [FieldOffset(8)] public ulong Size;
}
