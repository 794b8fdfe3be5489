using System;
using System.Runtime.InteropServices;

namespace MiniDumper.Guardian;

/// <summary>
/// A BPF program on the breakpoints that dismisses exceptions by their method table before any thread stops:
/// what it finds in its map it counts there; the rest stops as before. Before Linux 6.10 the signal is sent all
/// the same, and we dismiss it. It takes root, or CAP_BPF and CAP_PERFMON.
/// </summary>
internal sealed unsafe class KernelFilter : IDisposable
{
    private const int Bpf = 321; // asm/unistd_64.h
    private const int AttributeSize = 128; // union bpf_attr, linux/bpf.h: zero beyond what a command knows
    private const int MapCreate = 0, MapLookup = 1, MapUpdate = 2, ProgramLoad = 5;
    private const uint HashMap = 1; // BPF_MAP_TYPE_HASH
    private const uint PerfEventProgram = 7; // BPF_PROG_TYPE_PERF_EVENT
    private const int MaxTypes = 4096;
    private const nint SetProgram = 0x40042408; // PERF_EVENT_IOC_SET_BPF, linux/perf_event.h

    // linux/bpf_common.h, linux/bpf.h
    private const byte LoadWord = 0x79, LoadImmediate = 0x18, MoveRegister = 0xbf, MoveImmediate = 0xb7, Add = 0x07;
    private const byte AtomicAdd = 0xdb, JumpUnequal = 0x55, JumpEqual = 0x15, Call = 0x85, Exit = 0x95;
    private const int PseudoMap = 1, MapLookupFunction = 1, ReadUserFunction = 112;
    private const int Stack = 10, Stop = 1, Dismiss = 0;

    private int _map = -1;
    private int _program = -1;

    /// <summary>Makes map and program; the errno of what forbids it, or 0.</summary>
    public int Open()
    {
        byte* attribute = stackalloc byte[AttributeSize];
        new Span<byte>(attribute, AttributeSize).Clear();
        uint* fields = (uint*)attribute;
        (fields[0], fields[1], fields[2], fields[3]) = (HashMap, sizeof(ulong), sizeof(ulong), MaxTypes);
        _map = (int)syscall(Bpf, MapCreate, attribute, AttributeSize);
        return _map < 0 ? Libc.Errno : Load();
    }

    /// <summary>Puts the program on a breakpoint where the object is in the first argument.</summary>
    public void Attach(int descriptor)
    {
        if (_program >= 0)
            _ = ioctl(descriptor, SetProgram, _program);
    }

    /// <summary>Dismisses the exceptions of a type from now on.</summary>
    public void Ignore(ulong methodTable)
    {
        ulong none = 0;
        _ = Element(MapUpdate, &methodTable, &none);
    }

    /// <summary>How many exceptions of a type were dismissed.</summary>
    public ulong Count(ulong methodTable)
    {
        ulong count = 0;
        _ = Element(MapLookup, &methodTable, &count);
        return count;
    }

    public void Dispose()
    {
        foreach (int descriptor in new[] { _program, _map })
        {
            if (descriptor >= 0)
                Libc.Close(descriptor);
        }

        _map = _program = -1;
    }

    private nint Element(int command, ulong* key, ulong* value)
    {
        ulong* attribute = stackalloc ulong[AttributeSize / sizeof(ulong)];
        new Span<ulong>(attribute, AttributeSize / sizeof(ulong)).Clear();
        *(int*)attribute = _map;
        (attribute[1], attribute[2]) = ((ulong)key, (ulong)value);
        return _map < 0 ? -1 : syscall(Bpf, command, attribute, AttributeSize);
    }

    private int Load()
    {
        ReadOnlySpan<ulong> code =
        [
            Instruction(LoadWord, 3, 1, offset: Libc.Rdi), // the registers begin what the program is given
            Instruction(MoveRegister, 1, Stack),
            Instruction(Add, 1, immediate: -sizeof(ulong)),
            Instruction(MoveImmediate, 2, immediate: sizeof(ulong)),
            Instruction(Call, immediate: ReadUserFunction),
            Instruction(JumpUnequal, 0, offset: 10), // it cannot be read
            Instruction(MoveRegister, 2, Stack),
            Instruction(Add, 2, immediate: -sizeof(ulong)),
            Instruction(LoadImmediate, 1, PseudoMap, immediate: _map),
            0,
            Instruction(Call, immediate: MapLookupFunction),
            Instruction(JumpEqual, 0, offset: 4), // it is not known
            Instruction(MoveImmediate, 1, immediate: 1),
            Instruction(AtomicAdd, 0, 1),
            Instruction(MoveImmediate, 0, immediate: Dismiss),
            Instruction(Exit),
            Instruction(MoveImmediate, 0, immediate: Stop),
            Instruction(Exit),
        ];
        ulong* attribute = stackalloc ulong[AttributeSize / sizeof(ulong)];
        new Span<ulong>(attribute, AttributeSize / sizeof(ulong)).Clear();
        ReadOnlySpan<byte> licence = "GPL\0"u8; // ReadUserFunction is for such programs alone
        fixed (ulong* instructions = code)
        fixed (byte* text = licence)
        {
            attribute[0] = PerfEventProgram | (ulong)code.Length << 32;
            (attribute[1], attribute[2]) = ((ulong)instructions, (ulong)text);
            _program = (int)syscall(Bpf, ProgramLoad, attribute, AttributeSize);
        }

        return _program < 0 ? Libc.Errno : 0;
    }

    /// <summary>struct bpf_insn.</summary>
    private static ulong Instruction(byte code, int target = 0, int source = 0, int offset = 0, int immediate = 0) =>
        code | (ulong)(source << 4 | target) << 8 | (ulong)(ushort)offset << 16 | (ulong)(uint)immediate << 32;

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint syscall(nint number, nint command, void* attribute, nint size);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int ioctl(int descriptor, nint request, nint argument);
}
