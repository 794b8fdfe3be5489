using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Bridge;

/// <summary>
/// Walks stacks as SOS does, for what it reads: frames with their arguments and locals. Slots are
/// those of xclrdata.idl (dotnet/runtime).
/// </summary>
internal sealed unsafe class StackWalk(Dac dac)
{
    private const uint AllFrames = 0xF; // CLRDATA_SIMPFRAME_*, each kind
    private const int MaxFrames = 8096; // as ClrMD (DataTargetLimits)
    private const int MaxVariables = 256; // a torn count must not keep us
    private const int BufferLength = 512;

    private readonly byte* _buffer = (byte*)NativeMemory.Alloc(BufferLength, sizeof(char));

    /// <summary>Reads every frame of a thread with its variables; the number of frames.</summary>
    public int Frames(uint threadId)
    {
        if (dac.Child(7, threadId) is not ComObject task) // GetTaskByOSThreadID
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

        task.Release();
        return count;
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
