using System;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Linq.Expressions;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;

namespace Faults
{
    public class RareException : Exception
    {
        public RareException(string message, Exception? inner = null) : base(message, inner)
        {
        }
    }

    public sealed class VeryRareException : RareException
    {
        public VeryRareException(string message) : base(message)
        {
        }
    }

    /// <summary>Fails in the way that a word says: caught, or to the end of the process.</summary>
    internal static class Program
    {
        private static int s_zero;
        private static readonly object? s_nothing = Environment.GetEnvironmentVariable("no such variable");
        private static readonly int[] s_numbers = new int[1];
        private static volatile bool s_throwing;
        private static long s_thrown;
        private static ConcurrentQueue<string>? s_chances;

        private static void Main()
        {
            Conversation.Hold(line =>
            {
                string[] words = line.Split(' ');
                return words[0] switch
                {
                    "rate" => Rate(Number(words[1])),
                    "many" => Throwing(Number(words[1])),
                    "thrown" => Interlocked.Read(ref s_thrown).ToString(CultureInfo.InvariantCulture),
                    "caught" => Caught(words[1]),
                    "chances" => Chances(),
                    "child" => Child(),
                    "say" => Say(words[1]),
                    "end" => End(words[1]),
                    _ => null,
                };
            });
        }

        private static int Number(string word) => int.Parse(word, CultureInfo.InvariantCulture);

        /// <summary>Microseconds that an exception takes, thrown and caught.</summary>
        private static string Rate(int count)
        {
            Stopwatch watch = Stopwatch.StartNew();
            for (int i = 0; i < count; i++)
                Catch(() => throw new InvalidOperationException("common"));
            return (watch.Elapsed.TotalMilliseconds * 1000 / count).ToString("F2", CultureInfo.InvariantCulture);
        }

        /// <summary>Throws in so many threads from now on.</summary>
        private static string Throwing(int threads)
        {
            s_throwing = true;
            for (int i = 0; i < threads; i++)
            {
                new Thread(() =>
                {
                    while (s_throwing)
                    {
                        Catch(() => throw new InvalidOperationException("common"));
                        Interlocked.Increment(ref s_thrown);
                        Thread.Sleep(1);
                    }
                }) { IsBackground = true }.Start();
            }

            return "throwing";
        }

        /// <summary>What the runtime itself tells of first chances since the last time; from the first time on.</summary>
        private static string Chances()
        {
            if (s_chances is null)
                AppDomain.CurrentDomain.FirstChanceException += (_, told) => s_chances!.Enqueue(told.Exception.GetType().Name);
            string seen = string.Join(",", s_chances ?? new ConcurrentQueue<string>());
            s_chances = new ConcurrentQueue<string>();
            return seen;
        }

        /// <summary>Says something to a debugger; of the system's own ways, Windows has them alone.</summary>
        private static string Say(string way)
        {
            switch (way)
            {
                case "log":
                    Debugger.Log(0, "news", "a log\n");
                    break;
                case "trace":
                    Trace.WriteLine("a trace");
                    break;
                case "system":
                    OutputDebugStringW("a word");
                    break;
                case "library":
                    FreeLibrary(LoadLibraryW("msacm32.dll"));
                    break;
            }

            return "said";
        }

        /// <summary>The name of the exception that was caught.</summary>
        private static string Caught(string kind) => kind switch
        {
            "rare" => Catch(() => throw new RareException("a rare one")),
            "derived" => Catch(() => throw new VeryRareException("a very rare one")),
            "inner" => Catch(() => throw new RareException("outer", new FormatException("inside"))),
            "rethrow" => Catch(Rethrow),
            "cast" => Catch(() => _ = (string)(object)s_zero),
            "null" => Catch(() => s_nothing!.ToString()),
            "divide" => Catch(() => s_zero = 1 / s_zero),
            "index" => Catch(() => s_zero = s_numbers[s_zero + 7]),
            "method" => Catch(MissingMethod),
            "initializer" => Catch(() => s_zero = Broken.Value),
            "library" => Catch(() => NoSuchFunction()),
            "async" => Catch(() => Task.Run(async () =>
            {
                await Task.Yield();
                throw new RareException("async");
            }).GetAwaiter().GetResult()),
            "dynamic" => Catch(Emitted()),
            "thread" => CaughtInThread(),
            _ => "what?",
        };

        private static string Catch(Action action)
        {
            try
            {
                action();
                return "nothing";
            }
            catch (Exception e)
            {
                return e.GetType().Name;
            }
        }

        private static string CaughtInThread()
        {
            string caught = "";
            RunThread(() => caught = Catch(() => throw new RareException("in a thread of its own")));
            return caught;
        }

        private static void Rethrow()
        {
            try
            {
                throw new RareException("again");
            }
            catch (RareException)
            {
                throw;
            }
        }

        private static void MissingMethod() =>
            Activator.CreateInstance(typeof(RareException), nonPublic: true);

        /// <summary>Compiled into a dynamic method.</summary>
        private static Action Emitted() =>
            Expression.Lambda<Action>(Expression.Throw(Expression.Constant(new RareException("emitted")))).Compile();

        /// <summary>The exit code of a child.</summary>
        private static string Child()
        {
            using Process child = Process.Start("/bin/sh", "-c \"exit 3\"");
            child.WaitForExit();
            return child.ExitCode.ToString(CultureInfo.InvariantCulture);
        }

        /// <summary>Ends the process.</summary>
        private static string End(string kind)
        {
            switch (kind)
            {
                case "unhandled":
                    RunThread(() => throw new RareException("nobody", new FormatException("inside")));
                    break;
                case "finalizer":
                    MakeGarbage();
                    GC.Collect();
                    GC.WaitForPendingFinalizers();
                    break;
                case "failfast":
                    Environment.FailFast("enough");
                    break;
                case "overflow":
                    RunThread(() => s_zero = Deeper(1));
                    break;
                case "segv":
                    memset((IntPtr)0x10000, 1, (IntPtr)1);
                    break;
                case "abort":
                    abort();
                    break;
                case "exec":
                    execv("/bin/sh", new[] { "sh", "-c", "exit 9", null });
                    break;
                case "exit":
                    Environment.Exit(7);
                    break;
            }

            return "still here";
        }

        private static void RunThread(Action action)
        {
            Thread thread = new Thread(() => action());
            thread.Start();
            thread.Join();
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void MakeGarbage() => _ = new Failing();

        private static int Deeper(int depth) => depth < 0 ? 0 : Deeper(depth + 1) + depth;

        [DllImport("no-such-library")]
        private static extern void NoSuchFunction();

        [DllImport("libc")]
        private static extern IntPtr memset(IntPtr at, int value, IntPtr count);

        [DllImport("libc")]
        private static extern void abort();

        [DllImport("libc")]
        private static extern int execv(string path, string?[] words);

        [DllImport("kernel32", CharSet = CharSet.Unicode)]
        private static extern void OutputDebugStringW(string text);

        [DllImport("kernel32", CharSet = CharSet.Unicode)]
        private static extern IntPtr LoadLibraryW(string name);

        [DllImport("kernel32")]
        private static extern bool FreeLibrary(IntPtr library);

        private static class Broken
        {
            public static readonly int Value = int.Parse("broken", CultureInfo.InvariantCulture);
        }

        private sealed class Failing
        {
            ~Failing() => throw new RareException("finalizer");
        }
    }
}
