"""What watching costs an exception: thrown and caught, unwatched, and under -e 1 without a match.

    python benchmarks/waiting.py [--runtime VERSION ...] [--count N] [--without-breakpoints]

Microseconds an exception, measured inside the target (Faults), the best of three runs each; and
whether the number that the guardian counted is the number that was thrown. Without breakpoints
minidumper has to be the process's debugger; 300 exceptions will do then. Needs the toolchain.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support import seccomp
from tests.support.commands import started
from tests.support.targets import Running, running
from tests.support.waiting import await_line

CHOICES = {"-f": ("-f", "*no such text*"), "--type": ("--type", "No.Such")}
ROUNDS = 3


def rate(app: Running, count: int) -> float:
    """Microseconds an exception."""
    return min(float(app.ask(f"rate {count}")) for _ in range(ROUNDS))


def watched(
    app: Running, choice: tuple[str, ...], count: int, folder: str, prefix: list[str]
) -> tuple[float, int]:
    """The same under watch, and how many exceptions were seen."""
    with started("-mm", "-e", "1", *choice, app.pid, cwd=Path(folder), prefix=prefix) as own:
        await_line(own, "waiting in process")
        cost = rate(app, count)
        own.send_signal(signal.SIGINT)
        _, said = own.communicate(timeout=60)
    seen = re.search(r"exceptions thrown in all: (\d+)", said)
    return cost, int(seen[1]) if seen else 0


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", nargs="+", default=["10.0.14", "9.0.22", "8.0.4"])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--without-breakpoints", action="store_true")
    options = parser.parse_args()
    prefix = seccomp.prefix(seccomp.PERF_EVENT_OPEN) if options.without_breakpoints else []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in options.runtime:
            with running("Faults", runtime) as app:
                rate(app, options.count)
                line = f".NET {runtime:8} unwatched {rate(app, options.count):6.2f} us"
                for name, choice in CHOICES.items():
                    cost, seen = watched(app, choice, options.count, folder, prefix)
                    line += f"   {name} {cost:8.2f} us, {seen} of {ROUNDS * options.count} seen"
                print(line, flush=True)


if __name__ == "__main__":
    main()
