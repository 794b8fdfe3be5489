"""Dumps whose writer, or its worker, is killed at a random moment: the target must never mind.

python -m tests.support.kills [--rounds 1000] [--seed N]

Moments are spread over the steps of a dump: getting ready, the stop up to the plan, copying, the
rest. After each round the target answers, none of its threads is held, no process of ours is left,
and the folder holds nothing but whole dumps. Prints how the rounds ended.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from minidumper.dumpinfo import dump_info

from . import processes
from .commands import started
from .targets import Running, running

MODES: tuple[tuple[str, ...], ...] = (
    ("-mh",),
    ("-mh", "--async"),
    ("-mh", "--async", "--compress"),
    ("-mh", "--compress"),
    ("-mm", "-mh"),
    ("-ma",),
    ("-ma", "--async"),
)
READY, PLANNED, RESUMED = "; ready after ", " ranges", "the process stood still"
STEPS = 4


def steps(words: Sequence[str]) -> tuple[str, ...]:
    """What minidumper says (-v) when a step begins; the first begins with its start."""
    # From a snapshot the plan is made while the process runs on.
    last = (RESUMED, PLANNED) if "--async" in words else (PLANNED, RESUMED)
    return ("", READY, *last)


DEADLINE_S = 30.0


class Round(NamedTuple):
    """A dump and what is done to it."""

    words: tuple[str, ...]
    step: int
    part: float
    """Of the time that the step usually takes."""
    number: int
    worker: bool


def rounds(count: int, seed: int) -> Iterator[Round]:
    """So many rounds, every step as often as any other."""
    choice = random.Random(seed)
    for index in range(count):
        yield Round(
            words=choice.choice(MODES),
            step=index % STEPS,
            part=choice.random(),
            number=signal.SIGKILL,
            worker=choice.random() < 0.4,
        )


class Killer:
    """Plays rounds on one target."""

    def __init__(self, app: Running, folder: Path) -> None:
        """See how long each step of each mode takes when nobody disturbs it."""
        self._app = app
        self._folder = folder
        self._usual = {words: self._time_steps(words) for words in MODES}
        self.outcomes: collections.Counter[str] = collections.Counter()

    def play(self, turn: Round) -> None:
        """Kill in one dump, and see what is left of it.

        Raises:
            AssertionError: more than should be.
        """
        with started("-v", *turn.words, "-o", self._folder, self._app.pid, cwd=self._folder) as own:
            try:
                said = self._await(own, turn.step, turn.words)
                time.sleep(turn.part * self._usual[turn.words][turn.step])
                victim = self._victim(own, worker=turn.worker)
                with suppress(ProcessLookupError):
                    os.kill(victim, turn.number)
                said += own.communicate(timeout=DEADLINE_S)[1]
            finally:
                own.kill()
        files = self._check_rest()
        killed = victim == own.pid and own.returncode in (-turn.number, 130)
        if own.returncode == 0:
            assert files == sum(word.startswith("-m") for word in turn.words), said
        elif not killed:
            (error,) = [line for line in said.splitlines() if "error: " in line]
            assert own.returncode == 1, said
            assert "the CLR side" in error, said
            assert not files, said
        whom = "minidumper" if victim == own.pid else "the worker"
        how = "killed" if killed else f"exit code {own.returncode}"
        self.outcomes[f"step {turn.step}, {whom} hit: {how}, {files} files"] += 1

    def _time_steps(self, words: tuple[str, ...]) -> list[float]:
        times = [time.monotonic()]
        with started("-v", *words, "-o", self._folder, self._app.pid, cwd=self._folder) as own:
            for step in range(1, STEPS):
                self._await(own, step, words)
                times.append(time.monotonic())
            own.communicate(timeout=DEADLINE_S)
        times.append(time.monotonic())
        assert own.returncode == 0
        self._check_rest()
        return [after - before for before, after in itertools.pairwise(times)]

    def _await(self, own: subprocess.Popen[str], step: int, words: Sequence[str]) -> str:
        """Read what it says up to the beginning of a step."""
        assert own.stderr
        said = ""
        while step and steps(words)[step] not in said:
            line = own.stderr.readline()
            assert line, f"it ended before step {step}: {said}"
            said += line
        return said

    def _victim(self, own: subprocess.Popen[str], *, worker: bool) -> int:
        """The worker where it is asked for and there is one, else minidumper."""
        if worker:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(own.pid).children():
                    return child.pid
        return own.pid

    def _check_rest(self) -> int:
        """See that the target is well and nothing of ours is left; the number of whole dumps."""
        pid = self._app.pid
        assert self._app.alive()
        assert not set(processes.state(pid)) & set("tT"), "a thread is held"
        assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
        left = processes.descendants() - {psutil.Process(pid)}
        _, alive = psutil.wait_procs(left, timeout=DEADLINE_S)
        assert not alive, f"left: {alive}"
        files = list(self._folder.iterdir())
        for path in files:
            assert path.name.removesuffix(".zst").endswith(".dmp")
            assert dump_info(path).writer.startswith("minidumper"), f"{path} is not whole"
            path.unlink()
        return len(files)


@contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    """A killer with a target of its own, whose dumps go to `folder`."""
    with running("GcHeap", args=["--small", "20"]) as app:
        yield Killer(app, folder)


def main() -> None:
    """Play as many rounds as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    processes.adopt_orphans()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, killer(Path(folder)) as play:
        for done, turn in enumerate(rounds(options.rounds, options.seed), 1):
            play.play(turn)
            if done % 50 == 0:
                print(f"{done} rounds: the target lives", flush=True)
    for text, count in sorted(play.outcomes.items()):
        print(f"{count:6} {text}")


if __name__ == "__main__":
    main()
