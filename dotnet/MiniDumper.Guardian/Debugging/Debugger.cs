using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading;

namespace MiniDumper.Guardian.Debugging;

/// <summary>
/// Tells a process's exceptions and debug output as its debugger: for systems that forbid breakpoints.
/// </summary>
/// <remarks>
/// Commands: <c>filter SHOW PATTERN…</c>, <c>rule METHODTABLE VERDICT OFFSET OFFSET NAME</c>, <c>rest MILLISECONDS</c>, <c>resume</c> and
/// <c>detach</c> as those of <see cref="Guardian"/>; <c>output PATTERN…</c> (which debug output counts) and
/// <c>attach PID RUNTIME FOLDER</c> (an address and a text), answered with <c>ok attach HRESULT</c>.
/// Events: <c>exception</c>, <c>seen</c> and <c>type</c> as there, <c>output TID TEXT</c>, which holds the process,
/// too, and <c>said TID TEXT</c>, which does not. Every event stops the whole process.
/// </remarks>
internal sealed unsafe class Debugger(Channel channel, DebuggedProcess process) : IDebugEvents
{
    private const int FirstChance = 1; // DEBUG_EXCEPTION_FIRST_CHANCE, cordebug.idl
    private const int AttachDeadline = 10_000; // ms

    private readonly DebuggedProcess _process = process;
    private readonly Rules _rules = new(process.Read);
    private readonly Lock _speaks = new();
    private TextFilter? _outputs;
    private (int Tid, ulong Address, ulong MethodTable) _thrown; // what a rule is asked for
    private long _seen;

    /// <summary>
    /// Serves until the parent detaches or is gone, which is to free the target then. ICorDebugProcess::Detach ends
    /// the session and closes its pipe at once: where a thread tells an event just then, the runtime gives up its end
    /// for good (MT_SessionClose, dbgtransportsession.cpp), and the process stands still for ever.
    /// </summary>
    public void Run()
    {
        while (!channel.Ended)
        {
            foreach (string line in channel.Read())
            {
                string[] words = line.Split(' ');
                if (words[0] == "detach")
                {
                    Tell($"ok detach {_seen}");
                    return;
                }

                Obey(words);
            }
        }
    }

    public void OnAttached(void* process)
    {
        _process.Begin(process);
        _process.Continue();
    }

    public void OnException(void* thread, int type)
    {
        ulong address = type == FirstChance ? DebuggedProcess.Thrown(thread) : 0;
        ulong methodTable = 0;
        if (address == 0 || !_process.Read(address, &methodTable, sizeof(ulong)))
        {
            _process.Continue();
            return;
        }

        _seen++;
        _thrown = (DebuggedProcess.ThreadId(thread), address, methodTable);
        Judge();
    }

    public void OnOutput(void* thread, string text)
    {
        string line = text.TrimEnd('\r', '\n');
        string facts = $"{DebuggedProcess.ThreadId(thread)} {Channel.Hex(line)}";
        if (!Rest.IsOn && _outputs?.Counts(line) == true)
        {
            Tell($"output {facts}");
            return;
        }

        if (_rules.ShowsAll)
            Tell($"said {facts}");
        _process.Continue();
    }

    public void OnOther() => _process.Continue();

    private void Obey(string[] words)
    {
        switch (words[0])
        {
            case "filter":
                _rules.SetFilter(words[1..]);
                Tell($"ok {words[0]}");
                break;
            case "output":
                _outputs = new TextFilter(words[1..]);
                Tell($"ok {words[0]}");
                break;
            case "attach":
                Tell($"ok attach {_process.Attach(Number(words[1]), Channel.Text(words[3]), Rules.Address(words[2]), this, AttachDeadline):x}");
                break;
            case "rule":
                _rules.Add(words[1..]);
                Judge();
                break;
            case "rest":
                Rest.Begin(words[1]);
                break;
            case "resume":
                _process.Continue();
                break;
            default:
                throw new ArgumentException($"there is no command {words[0]}");
        }
    }

    private static int Number(string word) => int.Parse(word, CultureInfo.InvariantCulture);

    /// <summary>Reports the exception that is thrown where it counts; else the process runs on, unless a type is asked for.</summary>
    private void Judge()
    {
        switch (_rules.Judge(_thrown.Address, _thrown.MethodTable, out string facts))
        {
            case Rules.Finding.Counts:
                Tell($"exception {_thrown.Tid} {_thrown.Address:x} {Breakpoints.AllKind} {facts}");
                return;
            case Rules.Finding.Unknown:
                Tell($"type {_thrown.Tid} {facts}");
                return;
            case Rules.Finding.Shown:
                Tell($"seen {_thrown.Tid} {facts}");
                break;
        }

        _process.Continue();
    }

    /// <summary>Two threads speak: that of the commands, and that of the events.</summary>
    private void Tell(string line)
    {
        lock (_speaks)
            channel.Write(line);
    }
}
