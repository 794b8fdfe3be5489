using Microsoft.Diagnostics.Runtime;

namespace Oracle;

/// <summary>Threads, what they run, what they throw, what they hold.</summary>
internal static class Threads
{
    public static void List(Report report, ClrRuntime runtime)
    {
        foreach (ClrThread thread in runtime.Threads)
        {
            report.Line($"{thread.OSThreadId} managed {thread.ManagedThreadId} {thread.Address:x} state {(int)thread.State:x} {thread.GCMode} alive {thread.IsAlive} finalizer {thread.IsFinalizer} gc {thread.IsGc} locks {thread.LockCount} domain {thread.CurrentAppDomain?.Address:x} stack {thread.StackBase:x}-{thread.StackLimit:x} allocation {thread.AllocationContext.Start:x}-{thread.AllocationContext.End:x} context {Context(runtime, thread.OSThreadId)}");
        }
    }

    public static void Stacks(Report report, ClrRuntime runtime)
    {
        foreach (ClrThread thread in runtime.Threads)
        {
            report.Line($"thread {thread.OSThreadId}");
            report.Guard($"thread {thread.OSThreadId}", () =>
            {
                foreach (ClrStackFrame frame in thread.EnumerateStackTrace())
                {
                    report.Line($"    {Frame(frame)}");
                }
            });
        }
    }

    public static void Exceptions(Report report, ClrRuntime runtime)
    {
        foreach (ClrThread thread in runtime.Threads)
        {
            report.Guard($"thread {thread.OSThreadId}", () =>
            {
                for (ClrException? thrown = thread.CurrentException; thrown is not null; thrown = thrown.Inner)
                {
                    report.Line($"{thread.OSThreadId} {thrown.Address:x} {thrown.Type.Name} {thrown.HResult:x} {thrown.Message}");
                    foreach (ClrStackFrame frame in thrown.StackTrace)
                    {
                        report.Line($"    {Frame(frame)}");
                    }
                }
            });
        }
    }

    public static void Pool(Report report, ClrRuntime runtime)
    {
        if (runtime.ThreadPool is not { } pool)
        {
            report.Line($"none");
            return;
        }
        report.Line($"portable {pool.UsingPortableThreadPool} cpu {pool.CpuUtilization} min {pool.MinThreads} max {pool.MaxThreads} idle {pool.IdleWorkerThreads} active {pool.ActiveWorkerThreads} retired {pool.RetiredWorkerThreads} ports {pool.TotalCompletionPorts} free {pool.FreeCompletionPorts}");
        foreach (LegacyThreadPoolWorkRequest request in pool.EnumerateLegacyWorkRequests())
        {
            report.Line($"request {request.Function:x} {request.Context:x}");
        }
        foreach (HillClimbingLogEntry entry in pool.EnumerateHillClimbingLog())
        {
            report.Line($"hill {entry.TickCount} {entry.StateOrTransition} {entry.NewThreadCount} {entry.SampleCount} {entry.Throughput}");
        }
    }

    /// <summary>Says which thread comes next before it walks it: in a crash that is the last line.</summary>
    public static void StackRoots(Report report, ClrRuntime runtime, IReadOnlySet<uint> skip)
    {
        foreach (ClrThread thread in runtime.Threads.Where(t => !skip.Contains(t.OSThreadId)))
        {
            report.Line($"thread {thread.OSThreadId}");
            report.Flush();
            report.Guard($"thread {thread.OSThreadId}", () =>
            {
                foreach (ClrStackRoot root in thread.EnumerateStackRoots())
                {
                    report.Line($"    {root.Address:x} {root.Object.Address:x} {root.Object.Type?.Name} {root.RootKind} interior {root.IsInterior} pinned {root.IsPinned} {root.RegisterName}+{root.RegisterOffset} in {(root.StackFrame is null ? "" : Frame(root.StackFrame))}");
                }
            });
        }
    }

    private static string Frame(ClrStackFrame frame) =>
        $"{frame.InstructionPointer:x} {frame.StackPointer:x} {frame.Kind} {frame.FrameName} {frame.Method?.Signature} {frame.Method?.MethodDesc:x}";

    /// <summary>A hash of the CONTEXT of a thread: all registers that a reader can get.</summary>
    private static string Context(ClrRuntime runtime, uint thread)
    {
        byte[] context = new byte[0x4d0]; // sizeof(CONTEXT) of AMD64, winnt.h
        using var hash = new RunningHash();
        bool known = runtime.DataTarget.DataReader.GetThreadContext(thread, 0x0010001F, context); // CONTEXT_ALL
        hash.Add(context);
        return known ? hash.ToString() : "unknown";
    }
}
