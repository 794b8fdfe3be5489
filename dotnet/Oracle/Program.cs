using Microsoft.Diagnostics.Runtime;
using Oracle;

// Oracle dump FILE DAC [--sections NAME,...] [--skip TID,...] [--list]
//
// Prints what stock ClrMD reads from a core, section by section, in a form where two dumps of
// one stop that serve their readers equally well give equal text. Nothing comes from disk but
// the DAC. "--list" prints every object where else a hash stands for those of a segment.
if (args is not ["dump", string file, string dac, .. string[] options])
{
    Console.Error.WriteLine("usage: Oracle dump FILE DAC [--sections NAME,...] [--skip TID,...] [--list]");
    return 2;
}

using var output = new StreamWriter(Console.OpenStandardOutput(), bufferSize: 1 << 16);
using DataTarget target = DataTarget.LoadDump(file, new DataTargetOptions
{
    FileLocator = new NoFiles(),
    SymbolPaths = [],
    SymbolCachePath = Path.GetTempPath(),
});
NoFiles.HideFrom(target);
using ClrRuntime runtime = target.ClrVersions.Single().CreateRuntime(dac, ignoreMismatch: true);

var report = new Report(output, list: options.Contains("--list"));
string[] wanted = Values("--sections");
foreach ((string name, Action<Report, ClrRuntime> write) in Sections.All(Values("--skip").Select(uint.Parse).ToHashSet()))
{
    if (wanted.Length == 0 ? name != Sections.Roots : wanted.Contains(name))
    {
        report.Section(name);
        report.Guard(name, () => write(report, runtime));
    }
}
NoFiles.Check(target);
return 0;

string[] Values(string option)
{
    int at = Array.IndexOf(options, option);
    return at < 0 ? [] : options[at + 1].Split(',', StringSplitOptions.RemoveEmptyEntries);
}
