using System;
using System.Diagnostics;

/// <summary>What every test program does once it stands: it says so, then answers lines until the input ends.</summary>
internal static class Conversation
{
    /// <summary>Prints "ready PID" and answers each line of standard input; "alive", "clock" and "gap" for itself.</summary>
    /// <param name="answer">Answers the program's own words; null for a word it does not know.</param>
    public static void Hold(Func<string, string?>? answer = null)
    {
        Console.WriteLine("ready " + Process.GetCurrentProcess().Id);
        while (Console.ReadLine() is string word)
        {
            Console.WriteLine(word switch
            {
                "alive" => "alive",
                "clock" => PauseClock.Start(),
                "gap" => PauseClock.Stop(),
                _ => answer?.Invoke(word) ?? "what?",
            });
        }
    }
}
