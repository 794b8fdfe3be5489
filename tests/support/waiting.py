"""Talks with a minidumper that waits, and with its target."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minidumper import CaptureReport, Monitor

from . import oracle, processes, runtimes, seccomp
from .commands import ENVIRONMENT, PROGRAM, started
from .targets import Running, command

DEADLINE_S = 60
BREAKPOINTS, DEBUGGER = "breakpoints", "debugger"


def way_prefix(way: str) -> list[str]:
    """What starts a minidumper that has to see exceptions in that way."""
    return seccomp.prefix(seccomp.PERF_EVENT_OPEN) if way == DEBUGGER else []


def await_line(process: subprocess.Popen[str], text: str) -> str:
    """What it says up to a line with `text`."""
    assert process.stderr
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, f"it ended without {text!r}: {said}"
        said += line
    return said


def reports(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The reports of a wait that ends well."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def tell(app: Running, word: str) -> None:
    """Say a word that has no answer: the process ends of it."""
    assert app.process.stdin
    app.process.stdin.write(f"{word}\n".encode())
    app.process.stdin.flush()


def launch(
    *words: str | Path,
    program: Sequence[str | Path],
    cwd: Path,
    typed: str = "",
    prefix: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run minidumper -x to its end, with dotnet in the PATH."""
    dotnet = runtimes.root("10.0.14")
    path = {"PATH": f"{dotnet}:{os.environ['PATH']}"}
    return subprocess.run(
        [*prefix, *PROGRAM, *map(str, words), "-x", *map(str, program)],
        cwd=cwd,
        env=ENVIRONMENT | runtimes.dotnet_environment("10.0.14") | path,
        input=typed,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@contextmanager
def launched(
    version: str, cwd: Path, way: str, *words: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A minidumper -e 1 that launches Faults, which throws once, and ends."""
    with started(
        *("-mm", "--json", "-e", "1", *words, "-x", *command("Faults", version)),
        cwd=cwd,
        prefix=way_prefix(way),
        stdin=subprocess.PIPE,
        env={**runtimes.dotnet_environment(version), **variables},
    ) as own:
        assert own.stdin
        own.stdin.write("caught cast\nend exit\n")
        own.stdin.flush()
        yield own


def begun(own: subprocess.Popen[str]) -> int:
    """The pid of what `own` launched, once that has become the program and runs."""
    pid = int(await_line(own, " runs ").split("process ")[1].split()[0])
    while "t" in processes.state(pid):
        pass
    return pid


class Taken:
    """What came of a monitor at work in `thread`."""

    def __init__(self, monitor: Monitor) -> None:
        self.reports: list[CaptureReport] = []
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, args=(monitor,))

    def _run(self, monitor: Monitor) -> None:
        try:
            self.reports.extend(monitor.run())
        except Exception as err:  # its test looks at it
            self.error = err


@contextmanager
def watched(monitor: Monitor) -> Iterator[Taken]:
    """A monitor that waits, in a thread of its own; stopped at the end."""
    ready = threading.Event()

    class Ready(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("waiting in process"):
                ready.set()

    handler = Ready()
    logger = logging.getLogger("minidumper")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    taken = Taken(monitor)
    taken.thread.start()
    try:
        assert ready.wait(DEADLINE_S), taken.error
        yield taken
    finally:
        monitor.stop()
        taken.thread.join()
        logger.removeHandler(handler)


def sections(report: dict[str, Any], version: str, *names: str) -> oracle.Sections:
    dac = runtimes.framework(version) / "libmscordaccore.so"
    return oracle.sections(Path(report["path"]), dac, names)


def frames(stacks: list[str], tid: int) -> list[str]:
    """The lines of one thread."""
    at = stacks.index(f"thread {tid}")
    rest = stacks[at + 1 :]
    end = next((i for i, line in enumerate(rest) if line.startswith("thread ")), len(rest))
    return rest[:end]


def first_thread(path: str) -> int:
    """Which thread gdb looks at."""
    command = ["gdb", "-nx", "-batch", "-ex", f"core-file {path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.rpartition("LWP ")[2].partition(")")[0])


def assert_rests(
    app: Running, monitor: Monitor, word: str, watcher: type[Any], patch: pytest.MonkeyPatch
) -> None:
    """Of what counts, said again and again, nothing comes to us between the two dumps."""
    asked = held = 0
    resume = watcher.resume

    def counted(watcher: Any) -> None:
        nonlocal held
        held += 1
        resume(watcher)

    patch.setattr(watcher, "resume", counted)
    with watched(monitor) as taken:
        while taken.thread.is_alive():
            app.ask(word)
            asked += 1
    assert len(taken.reports) == 2
    assert held == 2 < asked


def assert_well(app: Running) -> None:
    assert app.alive()
    assert not set(processes.state(app.pid)) & set("tT"), "a thread is held"
