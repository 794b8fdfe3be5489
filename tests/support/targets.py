"""Runs the test programs of dotnet/targets, on any runtime and in any surroundings."""

from __future__ import annotations

import functools
import hashlib
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from . import paths, runtimes

DEADLINE_S = 60.0
"""For one answer: a stopped target does not answer, a busy machine answers late."""

SOURCES = paths.CHECKOUT / "dotnet"

SINGLE_FILE = "single-file"
SELF_CONTAINED = "self-contained"
"""Instead of a version: the program as an application of that kind, on 10.0.14."""

_PUBLISH = {
    SINGLE_FILE: [
        "--self-contained=false",
        "-p:PublishSingleFile=true",
        "-p:EnableSingleFileAnalyzer=false",
    ],
    SELF_CONTAINED: [
        "--self-contained=true",
        "-p:RuntimeFrameworkVersion=10.0.14",
        "-p:DisableTransitiveFrameworkReferenceDownloads=true",
    ],
}


class Running:
    """A test program that runs and answers."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()
        self.pid = self._await_ready()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._lines.put(line.decode().rstrip())

    def answer(self) -> str:
        """The next line that it says."""
        try:
            return self._lines.get(timeout=DEADLINE_S)
        except queue.Empty:
            status = self.process.poll()
            state = "running" if status is None else f"ended with {status:#x}"
            raise AssertionError(f"no answer in {DEADLINE_S:.0f} s; target {state}") from None

    def _await_ready(self) -> int:
        """Waits for "ready PID"; the pid that we see, which differs in a pid namespace."""
        words = self.answer().split()
        assert words[0] == "ready", words
        below = psutil.Process(self.process.pid).children(recursive=True)
        return below[-1].pid if below else self.process.pid

    def ask(self, word: str) -> str:
        """The program's answer to one word."""
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        return self.answer()

    def alive(self) -> bool:
        """Whether the program answers within the deadline."""
        return self.ask("alive") == "alive"

    def start_clock(self) -> None:
        """Measure from now on; holds one processor until `gap_ms`."""
        assert self.ask("clock") == "clock"

    def gap_ms(self) -> float:
        """How long the program did not run at most since `start_clock`, seen from inside."""
        return float(self.ask("gap"))

    def end(self) -> None:
        """Kill it with all that it started, and reap it; a test may have done so before."""
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for process in family:
            process.kill()
        self.process.communicate()
        psutil.wait_procs(family)
        self._reader.join()


@contextmanager
def running(
    program: str,
    runtime: str = "10.0.14",
    args: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
) -> Iterator[Running]:
    """A test program that stands; killed and reaped at the end.

    `runtime` is a version, SINGLE_FILE or SELF_CONTAINED; `prefix` a command that starts it, as
    `unshare -pfm`; `user` needs root, and a cache that this user can enter.
    """
    environment = runtimes.dotnet_environment(runtime) | dict(env or {})
    words = [*prefix, *command(program, runtime), *args]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        user=user,
        cwd=cwd,
    )
    try:
        target = Running(process)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    try:
        yield target
    finally:
        target.end()


def command(program: str, runtime: str) -> list[str | Path]:
    """What starts a test program on a runtime."""
    if runtime in _PUBLISH:
        return [published(program, runtime) / program]
    dotnet = runtimes.root(runtime) / "dotnet"
    return [
        dotnet,
        "exec",
        "--fx-version",
        runtime,
        built() / program / "release" / f"{program}.dll",
    ]


@functools.cache
def built() -> Path:
    """The folder with all test programs and the Oracle, built once for these sources."""
    solution = SOURCES / "targets" / "Targets.slnx"
    name = f"built-{_digest()}"
    return (
        paths.prepared(name, lambda at: _dotnet("build", solution, "--artifacts-path", at)) / "bin"
    )


@functools.cache
def published(program: str, kind: str) -> Path:
    """The folder with `program` as an application of that kind."""
    apphost = runtimes.toolchain() / "dotnet" / "sdk" / "10.0.401" / "AppHostTemplate" / "apphost"

    def publish(at: Path) -> None:
        _dotnet(
            "publish",
            SOURCES / "targets" / program,
            *_PUBLISH[kind],
            "--artifacts-path",
            at / "build",
            "--output",
            at / "app",
            "--runtime=linux-x64",
            "-p:UseAppHost=true",
            "-p:EnableAppHostPackDownload=false",
            f"-p:AppHostSourcePath={apphost}",
        )

    return paths.prepared(f"{kind}-{program}-{_digest()}", publish) / "app"


def _dotnet(command: str, *options: str | Path) -> None:
    """Runs the SDK with the toolchain's packages; no compiler server stays behind."""
    toolchain = runtimes.toolchain()
    done = subprocess.run(
        [
            toolchain / "dotnet" / "dotnet",
            command,
            *options,
            "--configuration=Release",
            "--verbosity=quiet",
            f"-p:RestoreConfigFile={toolchain / 'NuGet.Config'}",
            "-p:UseSharedCompilation=false",
            "-nodeReuse:false",
        ],
        env=runtimes.dotnet_environment("10.0.14"),
        cwd=toolchain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"dotnet {command} failed:\n{done.stdout}{done.stderr}"


@functools.cache
def _digest() -> str:
    """Of everything that the build reads."""
    digest = hashlib.sha256()
    for folder in (SOURCES / "targets", SOURCES / "Oracle"):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".cs", ".csproj", ".props", ".slnx", ".json"}:
                digest.update(str(path.relative_to(SOURCES)).encode() + path.read_bytes())
    props = SOURCES / "Directory.Build.props"
    digest.update(props.read_bytes() if props.exists() else b"")
    return digest.hexdigest()[:16]
