// A small order service that has run for a while: something to dump.
//
//     dotnet Demo.dll [--native MB]
//
// Prints "ready PID" when its heap is complete, and ends when its standard input closes.

using System.Runtime.InteropServices;

namespace Demo;

internal static class Program
{
    // Written native memory, as a real server has it: what a heap dump leaves out.
    private const int DefaultNativeMegabytes = 64;

    private static int Main(string[] args)
    {
        if (!TryParse(args, out int nativeMegabytes))
        {
            Console.Error.WriteLine("usage: Demo [--native MB]");
            return 2;
        }

        AllocateNative(nativeMegabytes);
        using var service = new OrderService();
        service.WaitUntilBusy();
        GC.Collect(); // what filling left behind differs from run to run

        Console.WriteLine($"ready {Environment.ProcessId}");

        Console.In.ReadToEnd();
        return 0;
    }

    private static bool TryParse(string[] args, out int nativeMegabytes)
    {
        nativeMegabytes = DefaultNativeMegabytes;
        return args is []
            || (args is ["--native", var text] && int.TryParse(text, out nativeMegabytes) && nativeMegabytes >= 0);
    }

    // Random bytes: pages of zeros would become holes in every dump file and prove nothing.
    private static unsafe void AllocateNative(int megabytes)
    {
        const int Megabyte = 1 << 20;
        var random = new Random(2);
        for (int i = 0; i < megabytes; i++)
        {
            random.NextBytes(new Span<byte>(NativeMemory.Alloc(Megabyte), Megabyte));
        }
    }
}
