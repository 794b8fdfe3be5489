using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// Walks stacks as SOS does, for what it reads: every frame, and once for each place in the code the
/// method with its name, its GC info, its arguments and locals. Slots are those of xclrdata.idl
/// (dotnet/runtime).
/// </summary>
/// <remarks>
/// The roots of a stack are not walked, only the GC info that leads to them is noted: up to .NET 9 the
/// walk goes through the objects of a segment for an interior pointer, and in the middle of an
/// exception's dispatch it crashes the DAC. So does IXCLRDataTask's exception state.
/// </remarks>
internal sealed unsafe class StackWalk(Dac dac, SosDac sos, TargetDataReader reader)
{
    private const uint AllFrames = 0xF; // CLRDATA_SIMPFRAME_*, each kind
    private const uint FrameDataRequest = 0xf0000000; // DACSTACKPRIV_REQUEST_FRAME_DATA
    private const int MaxFrames = 8096; // as ClrMD (DataTargetLimits)
    private const int MaxVariables = 256; // a torn count must not keep us
    private const int BufferLength = 512;
    private const int ContextSize = 0x4d0; // CONTEXT of AMD64; that of ARM64 is smaller (winnt.h)

    private static readonly bool s_arm64 = RuntimeInformation.ProcessArchitecture == Architecture.Arm64;

    private readonly byte* _buffer = (byte*)NativeMemory.Alloc(BufferLength, sizeof(char));
    private readonly byte* _context = (byte*)NativeMemory.AlignedAlloc(ContextSize, 16);
    private readonly HashSet<ulong> _seen = [];

    /// <summary>Forgets which places it has seen: what they read is to be read again.</summary>
    public void Reset() => _seen.Clear();

    /// <summary>Walks a thread's stack; the number of frames.</summary>
    public int Walk(uint threadId)
    {
        if (dac.Child(7, threadId) is not ComObject task) // GetTaskByOSThreadID
            return 0;

        int count = 0;
        if (task.Child(11, AllFrames) is ComObject walk) // CreateStackWalk
        {
            do
                Visit(walk);
            while (++count < MaxFrames && walk.Advance(5)); // Next
            walk.Release();
        }

        task.Release();
        return count;
    }

    private void Visit(ComObject walk)
    {
        // CONTEXT_CONTROL | INTEGER | SEGMENTS | FLOATING_POINT | DEBUG_REGISTERS of AMD64; all of ARM64.
        (uint flags, uint size, int ip) = s_arm64 ? (0x40001fu, 912u, 264) : (0x10003fu, (uint)ContextSize, 248);
        uint needed;
        ulong frame = 0;
        ulong* address = (ulong*)(_context + ip);
        *address = 0; // it stays so (S_FALSE) in a thread without frames, as all are while the process ends
        if (walk.Get(3, flags, size, &needed, _context) && *address != 0) // GetContext
            VisitCode(walk, *address);
        if (walk.Request(9, FrameDataRequest, &frame, sizeof(ulong)) && frame != 0)
            sos.ExplicitFrame(frame, reader.ReadPointer(frame));
    }

    private void VisitCode(ComObject walk, ulong address)
    {
        if (!_seen.Add(address))
            return;

        if (sos.CodeHeader(address, out CodeHeaderData code))
            reader.Record(code.GcInfo, code.GcInfoSize);
        if (sos.MethodDescAt(address, out ulong method) && sos.MethodDesc(method, address, out MethodDescData data))
            sos.MethodTableSurroundings(data.MethodTable, []);
        if (walk.Child(8) is ComObject frame) // GetFrame
        {
            Variables(frame, countSlot: 6, itemSlot: 7); // arguments
            Variables(frame, countSlot: 8, itemSlot: 9); // locals
            frame.Release();
        }
    }

    private void Variables(ComObject frame, int countSlot, int itemSlot)
    {
        uint count = 0;
        frame.Get(countSlot, &count);
        for (uint i = 0; i < Math.Min(count, MaxVariables); i++)
        {
            if (frame.Member(itemSlot, i, BufferLength, _buffer) is not ComObject value)
                continue;

            ulong location;
            uint number;
            if (value.Get(28, &number)) // GetNumLocations
                value.Get(29, 0, &number, &location); // GetLocationByIndex
            value.Get(6, BufferLength, &number, _buffer); // GetBytes
            value.Release();
        }
    }
}
