using System.Collections.Generic;

namespace MiniDumper.Guardian;

/// <summary>A thread of the target, seized.</summary>
internal sealed class Tracee(int tid, Tracees process)
{
    public int Tid => tid;

    /// <summary>The wait status of the stop that it is in; 0 while it runs.</summary>
    public int Status { get; set; }

    /// <summary>Whether it stays where it is until the parent has looked at it.</summary>
    public bool Parked { get; set; }

    /// <summary>Descriptors of what is watched in it.</summary>
    public List<int> Breakpoints { get; } = [];

    /// <summary>Whether it has been asked for those.</summary>
    public bool Armed { get; set; }

    /// <summary>The exception whose throw it was last seen at by the JIT's helper; 0 for none.</summary>
    public ulong Thrown { get; set; }

    /// <summary>Whether it would sleep for ever behind the end of the process, and shall end it instead.</summary>
    public bool Doomed { get; set; }

    public bool Stopped => Status != 0;

    public int Event => Status >> 16;

    public int Signal => (Status >> 8) & 0xff;

    /// <summary>Whether it is at the beginning or the end of a system call.</summary>
    public bool AtCall => Event == 0 && Signal == (Libc.SigTrap | 0x80); // PTRACE_O_TRACESYSGOOD, ptrace(2)

    /// <summary>The signal that it is about to take; 0 for none.</summary>
    public int Pending => !Stopped || Event != 0 || AtCall ? 0 : Doomed ? Libc.SigAbrt : Signal;

    /// <summary>Lets it run on with a signal; in a group-stop it stays stopped, as everybody sees it, until SIGCONT.</summary>
    public void Continue(int signal)
    {
        bool group = Event == Libc.EventStop && Signal != Libc.SigTrap;
        Status = 0;
        Parked = false;
        // ESRCH: it was killed while it was held.
        _ = group ? Libc.Ptrace(Libc.Listen, tid) : Libc.Ptrace(process.StopsAtCalls ? Libc.SysCall : Libc.Cont, tid, 0, signal);
    }

    /// <summary>Has nothing watched in it any more.</summary>
    public void Disarm()
    {
        Breakpoints.ForEach(Libc.Close);
        Breakpoints.Clear();
    }

    /// <summary>Lets it go with a signal, for good.</summary>
    public void Detach(int signal) => _ = Libc.Ptrace(Libc.Detach, tid, 0, signal);
}
