using System;

namespace MiniDumper.Bridge;

/// <summary>Why a page belongs to a dump; the values are those of <c>Reason</c> in minidumper/ranges.py.</summary>
[Flags]
internal enum Reasons : uint
{
    None = 0,
    GcHeap = 1 << 0,
    GcBookkeeping = 1 << 1,
    HandleTable = 1 << 2,
    LoaderHeap = 1 << 3,
    JitCode = 1 << 4,
    Stubs = 1 << 5,
    RuntimeData = 1 << 6,
    ModuleHeader = 1 << 8,
    Metadata = 1 << 9,
    DacRead = 1 << 11,

    /// <summary>The DAC named this page; what kind of heap it is in decides the reason it gets.</summary>
    Enumerated = 1 << 16,

    /// <summary>A heap of that kind lies here, which alone is no reason to dump the page.</summary>
    InLoaderHeap = LoaderHeap << 17,
    InJitCode = JitCode << 17,
    InStubs = Stubs << 17,

    /// <summary>Read in the rehearsal; counts as <see cref="DacRead"/>, but for the GC's memory, which has moved on.</summary>
    Rehearsed = 1 << 30,

    /// <summary>Memory of the GC, in use or not.</summary>
    InGcHeap = 1u << 31,
}
