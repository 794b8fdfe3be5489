using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// Walks stacks as SOS does, for what it reads: frames, their arguments and locals, and their roots.
/// Slots are those of xclrdata.idl and sospriv.idl (dotnet/runtime).
/// </summary>
internal sealed unsafe class StackWalk
{
    private const uint AllFrames = 0xF; // CLRDATA_SIMPFRAME_*, each kind
    private const int MaxFrames = 8096; // as ClrMD (DataTargetLimits)
    private const int MaxVariables = 256; // a torn count must not keep us
    private const int MaxNested = 64;
    private const int RootsAtOnce = 64;
    private const int RootSize = 56; // SOSStackRefData
    private const int BufferLength = 512;

    private readonly Dac _dac;
    private readonly SosDac _sos;
    private readonly byte* _buffer = (byte*)NativeMemory.Alloc(BufferLength, sizeof(char));

    public StackWalk(Dac dac, SosDac sos)
    {
        _dac = dac;
        _sos = sos;
    }

    /// <summary>Reads every frame of a thread with its variables; the number of frames.</summary>
    public int Frames(uint threadId)
    {
        if (_dac.Child(7, threadId) is not ComObject task) // GetTaskByOSThreadID
            return 0;

        int count = 0;
        if (task.Child(11, AllFrames) is ComObject walk) // CreateStackWalk
        {
            do
            {
                if (walk.Child(8) is not ComObject frame) // GetFrame
                    continue;
                Variables(frame, countSlot: 6, itemSlot: 7); // arguments
                Variables(frame, countSlot: 8, itemSlot: 9); // locals
                frame.Release();
            }
            while (++count < MaxFrames && walk.Advance(5)); // Next
            walk.Release();
        }

        ExceptionStates(task);
        task.Release();
        return count;
    }

    /// <summary>Reads all roots on a thread's stack. It can crash the DAC during exception dispatch.</summary>
    public int Roots(uint threadId)
    {
        if (_sos.Child(79, threadId) is not ComObject roots) // GetStackReferences
            return 0;

        byte* items = stackalloc byte[RootsAtOnce * RootSize];
        int total = 0;
        uint fetched;
        while (roots.Get(6, RootsAtOnce, items, &fetched) && fetched > 0) // Next
            total += (int)fetched;
        roots.Release();
        return total;
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

    /// <summary>The thread's exception and those that it interrupted.</summary>
    private static void ExceptionStates(ComObject task)
    {
        foreach (int slot in (ReadOnlySpan<int>)[15, 18]) // GetCurrentExceptionState, GetLastExceptionState
        {
            ComObject? state = task.Child(slot);
            for (int depth = 0; state is not null && depth < MaxNested; depth++)
            {
                uint flags;
                state.Get(3, &flags);
                state.Child(5)?.Release(); // GetManagedObject
                ComObject? previous = state.Child(4); // GetPrevious
                state.Release();
                state = previous;
            }

            state?.Release();
        }
    }
}
