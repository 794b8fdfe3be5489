"""Waits that are killed at a random moment while six threads throw: the target must never mind.

python -m tests.support.waiting_kills [--rounds 1000] [--seed N] [--runtime VERSION]
    [--without-breakpoints] [--kill minidumper|guardian|debugger …]

Moments are spread over the start, the wait, and a dump at an exception: its stop, its file. Others
than minidumper alone are killed while it waits; the debugger is what it has --without-breakpoints.
After each round the target throws on, none of its threads is held and no process of ours is left.
Prints how the rounds ended.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from . import processes, seccomp
from .commands import started
from .targets import Running, running
from .waiting import await_line

WAITS = (
    ("-mm", "-e", "1", "-f", "*nothing*"),
    ("-mm", "-e", "1", "--type", "No.Such"),
    ("-mm", "-e", "1", "-n", "1000"),
    ("-mh", "-e", "1", "-n", "1000"),
    ("-mm", "-e", "-t"),
)
THROWS = WAITS[:4]
"""Those that need breakpoints, or a debugger."""

MINIDUMPER, GUARDIAN, DEBUGGER, WATCHDOG = "minidumper", "guardian", "debugger", "watchdog"
LONGEST_S = 0.8
"""After which a wait is killed; the third and fourth take dumps all the time."""

DEADLINE_S = 30.0


class WaitKiller:
    """Plays rounds on one target."""

    def __init__(
        self, app: Running, folder: Path, seed: int, *, without_breakpoints: bool = False
    ) -> None:
        self._app = app
        self._folder = folder
        self._waits = THROWS if without_breakpoints else WAITS
        self._prefix = seccomp.prefix(seccomp.PERF_EVENT_OPEN) if without_breakpoints else []
        self._choice = random.Random(seed)
        self.outcomes: collections.Counter[str] = collections.Counter()
        assert app.ask("many 6") == "throwing"

    def play(self, *victims: str) -> None:
        """Kill in one wait, minidumper where no others are named, and see what is left of it.

        Raises:
            AssertionError: more than should be.
        """
        words = self._choice.choice(self._waits)
        from_start = not victims and self._choice.random() < 0.3
        arguments = (*words, "-o", f"{self._folder}/", self._app.pid)
        with started(*arguments, cwd=self._folder, prefix=self._prefix) as own:
            try:
                if not from_start:
                    await_line(own, "waiting in process")
                time.sleep(self._choice.random() * LONGEST_S)
                for pid in [pid_of(victim, own.pid) for victim in victims or (MINIDUMPER,)]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, 9)
                _, said = own.communicate(timeout=DEADLINE_S)
            finally:
                own.kill()
        self._check_rest()
        assert (victims and MINIDUMPER not in victims) or own.returncode == -9, said
        self.outcomes[f"{' '.join(words)}: exit {own.returncode}"] += 1

    def _check_rest(self) -> None:
        pid = self._app.pid
        left = processes.descendants() - {psutil.Process(pid)}
        _, alive = psutil.wait_procs(left, timeout=DEADLINE_S)
        assert not alive, f"left: {alive}"
        assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
        assert not set(processes.state(pid)) & set("tT"), "a thread is held"
        thrown = int(self._app.ask("thrown"))
        while int(self._app.ask("thrown")) < thrown + 50:
            pass
        for path in self._folder.iterdir():
            assert path.suffix == ".dmp"
            path.unlink()


def pid_of(name: str, pid: int) -> int:
    """A minidumper, or one of those that it starts."""
    if name == MINIDUMPER:
        return pid
    (found,) = [c.pid for c in psutil.Process(pid).children() if _name(c.cmdline()) == name]
    return found


def _name(words: list[str]) -> str:
    if any("linux.watchdog" in word for word in words):
        return WATCHDOG
    if not any("MiniDumper.Guardian" in word for word in words):
        return ""
    return DEBUGGER if "debug" in words else GUARDIAN


@contextmanager
def wait_killer(
    folder: Path, seed: int, *, runtime: str = "10.0.14", without_breakpoints: bool = False
) -> Iterator[WaitKiller]:
    """A killer with a target of its own, whose dumps go to `folder`."""
    with running("Faults", runtime) as app:
        yield WaitKiller(app, folder, seed, without_breakpoints=without_breakpoints)


def main() -> None:
    """Play as many rounds as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--runtime", default="10.0.14")
    parser.add_argument("--without-breakpoints", action="store_true")
    parser.add_argument("--kill", nargs="+", choices=[MINIDUMPER, GUARDIAN, DEBUGGER], default=[])
    options = parser.parse_args()
    processes.adopt_orphans()
    print(f"seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        wait_killer(
            Path(folder),
            options.seed,
            runtime=options.runtime,
            without_breakpoints=options.without_breakpoints,
        ) as killer,
    ):
        for done in range(1, options.rounds + 1):
            killer.play(*options.kill)
            if done % 50 == 0:
                print(f"{done} rounds: the target lives", flush=True)
    for text, count in sorted(killer.outcomes.items()):
        print(f"{count:6} {text}")


if __name__ == "__main__":
    main()
