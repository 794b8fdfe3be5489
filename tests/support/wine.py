"""Windows under Wine: a prefix with Microsoft's dbghelp, Python with our wheels, and .NET.

Laid down once per machine into the cache. One session at a time uses the prefix.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from . import paths, runtimes

WHEELS = (
    *("click", "clr-loader", "colorama", "hypothesis", "minidump", "psutil", "pytest"),
    *("pythonnet", "rich", "zstandard"),
)
"""What our code and its tests import; colorama is what click and pytest need on Windows alone."""

DEADLINE_S = 300.0
"""Of one command: everything is slower under Wine, and a crashed program may hang there."""


class Done(NamedTuple):
    """A command that ended."""

    status: int
    output: str


def missing() -> str:
    """Why Windows programs cannot be run here, "" when all is laid down."""
    if not shutil.which("wine"):
        return "wine is not installed"
    if reason := runtimes.missing_toolchain():
        return reason
    try:
        prefix()
        site_packages()
    except runtimes.Unavailable as error:
        return str(error)
    return ""


def windows_path(path: Path) -> str:
    """A path of this machine as Windows programs see it."""
    return str(PureWindowsPath("Z:", path.resolve()))


@functools.cache
def windows() -> Path:
    """Where Windows Python, .NET and Microsoft's debugger libraries are laid down.

    Raises:
        Unavailable: the toolchain's installer failed.
    """
    where = runtimes.toolchain()
    _run(sys.executable, paths.TOOLCHAIN / "install.py", "--dest", where, "--windows")
    return where / "windows"


@functools.cache
def site_packages() -> Path:
    """The folder with the wheels.

    Raises:
        Unavailable: they cannot be downloaded.
    """

    def download(where: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        choice = ["--platform=win_amd64", "--python-version=3.11", "--only-binary=:all:"]
        _run(*pip, *choice, "--target", where, *WHEELS)

    digest = hashlib.sha256(" ".join(WHEELS).encode()).hexdigest()[:8]
    return paths.prepared(f"windows-wheels-{digest}", download)


@functools.cache
def prefix() -> Path:
    """The Wine prefix: Windows 10, and Microsoft's dbghelp in its system folder.

    Raises:
        Unavailable: Wine failed to make it.
    """

    def make(where: Path) -> None:
        env = environment(where)
        _run("wineboot", "--init", env=env)
        # Else .NET sees Windows 6.1.
        key = r"HKCU\Software\Wine"
        _run("wine", "reg", "add", key, "/v", "Version", "/d", "win10", "/f", env=env)
        _run("wineserver", "--wait", env=env)
        for name in ("dbghelp.dll", "dbgcore.dll"):
            shutil.copy(windows() / "x64" / name, where / "drive_c" / "windows" / "system32")

    version = subprocess.run(["wine", "--version"], capture_output=True, text=True, check=True)
    return paths.prepared(version.stdout.split()[0], make)


def environment(where: Path) -> dict[str, str]:
    """What programs of the prefix `where` are started with."""
    return runtimes.clean_environment() | {
        "WINEPREFIX": str(where),
        "WINEDEBUG": "-all",
        "DISPLAY": "",
        # With "n" alone .NET cannot load an image without native code: Wine's mscoree is asked for
        # it, which wants a dbghelp.
        "WINEDLLOVERRIDES": "dbgcore,dbgeng,dbghelp,dbgmodel=n,b",
        "PYTHONPATH": ";".join(map(windows_path, (paths.CHECKOUT, site_packages()))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DOTNET_EnableWriteXorExecute": "0",  # a third faster under Wine
    }


@contextmanager
def session() -> Iterator[None]:
    """Wine that stays up, so that no command waits for its start; ended with all it runs."""
    import fcntl  # which Windows lacks, where tests import this module too

    env = environment(prefix())
    with open(f"{prefix()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = subprocess.Popen(["wineserver", "--foreground", "--persistent"], env=env)
        try:
            _run("wine", "cmd", "/c", "exit", env=env)
            yield
        finally:
            _run("wineserver", "--kill", env=env)
            server.wait()


def python(
    *words: str | Path, env: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
) -> Done:
    """Run Windows Python; `words` that are paths are given as Windows sees them.

    Standard output and error come together: to a file instead of a pipe Python cannot write here.
    """
    command = ["wine", str(windows() / "python-x64" / "python.exe")]
    command += [windows_path(word) if isinstance(word, Path) else word for word in words]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(prefix()) | dict(env or {}),
        cwd=paths.CHECKOUT,
    )
    try:
        output, _ = process.communicate(timeout=deadline_s)
    finally:
        process.kill()
        process.wait()
    return Done(process.returncode, output.decode(errors="replace"))


def _run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    # To a file: what Wine starts in the background would keep a pipe open.
    with tempfile.TemporaryFile() as words:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            env=env,
            timeout=DEADLINE_S,
            check=False,
        )
        words.seek(0)
        lines = words.read().decode(errors="replace").strip().splitlines() or ["?"]
    if done.returncode:
        raise runtimes.Unavailable(f"{command[0]} {command[1]}: {lines[-1]}")
