"""How long `regions` and `ps` take, and how long a process stands still for the first.

    python benchmarks/looks.py [--heap MB ...] [--processes N] [--rounds N]

Every line is a median of rounds. The pause is measured inside the target: the longest gap of a loop
that reads the clock. Wall times are those of the whole command. Needs the toolchain.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.commands import ENVIRONMENT, PROGRAM
from tests.support.targets import running


def timed(*words: str) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run([*PROGRAM, *words], env=ENVIRONMENT, check=True, capture_output=True)
    return time.perf_counter() - began


def regions(heap: int, rounds: int) -> None:
    """Of a GcHeap process with a heap of so many megabytes, 30 percent of it large objects."""
    sizes = ["--small", str(heap * 7 // 10), "--large", str(heap * 3 // 10)]
    whole, gaps = [], []
    with running("GcHeap", args=sizes) as app:
        for _ in range(rounds):
            app.start_clock()
            whole.append(timed("regions", str(app.pid), "--json"))
            gaps.append(app.gap_ms())
    print(
        f"regions, {heap} MB heap: {statistics.median(whole):.2f} s, the process stood still "
        f"for {statistics.median(gaps):.0f} ms ({min(gaps):.0f} to {max(gaps):.0f})"
    )


def ps(processes: int, rounds: int) -> None:
    """Among so many other processes."""
    crowd = [subprocess.Popen(["sleep", "3600"]) for _ in range(processes)]
    try:
        whole = [timed("ps") for _ in range(rounds)]
    finally:
        for process in crowd:
            process.kill()
        for process in crowd:
            process.wait()
    print(f"ps, {processes} processes: {statistics.median(whole):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--heap", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for heap in options.heap:
        regions(heap, options.rounds)
    ps(options.processes, options.rounds)


if __name__ == "__main__":
    main()
