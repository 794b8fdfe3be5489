"""The trimmed hosts in lib/ hold what the worker and the demo program need."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import paths, runtimes, wine

LIB = paths.CHECKOUT / "lib"
DEMO = LIB / "targets" / "Demo.dll"

LEFT_OUT = {
    "DataTargetOptions": "credentials for symbol servers",
    "LinuxSnapshotTarget": "a dump through the target's diagnostic port",
    "MacOSSnapshotTarget": "the same",
    "SymbolGroup": "symbol servers",
    "SymbolServer": "symbol servers",
    "AuthenticodeUtil": "the signature of a DAC for Windows",
}
"""Types of ClrMD with methods that lack an assembly, and what minidumper never asks of them."""


@pytest.mark.gate("linux", "embedded-host")
def test_every_method_that_is_used_compiles() -> None:
    pythonnet = find_spec("pythonnet")
    assert pythonnet
    assert pythonnet.origin
    command: list[str | Path] = [
        *(sys.executable, "-m", "tests.support.compile_all"),
        *(LIB / "host" / "linux-x64", LIB / "bridge" / "MiniDumper.Bridge.dll"),
        *(LIB / "bridge" / "MiniDumper.Bridge.dll", DEMO),
        LIB / "bridge" / "Microsoft.Diagnostics.Runtime.dll",
        Path(pythonnet.origin).parent / "runtime" / "Python.Runtime.dll",
    ]
    done = subprocess.run(
        command,
        cwd=paths.CHECKOUT,
        env=runtimes.clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["compiled"] > 5_000
    # A nested type is the compiler's own, made for a method of the type around it.
    lacking = {name.partition("+")[0].rpartition(".")[2] for name in result["missing"]}
    assert lacking == LEFT_OUT.keys()


@pytest.mark.gate("linux", "embedded-host")
def test_demo_runs_on_the_host_for_linux() -> None:
    check_demo([LIB / "host" / "linux-x64" / "dotnet", DEMO], runtimes.clean_environment())


@pytest.mark.gate("wine", "toolchain")
@pytest.mark.usefixtures("wine_session")
def test_demo_runs_on_the_host_for_windows() -> None:
    dotnet = LIB / "host" / "win-x64" / "dotnet.exe"
    command: list[str | Path] = ["wine", dotnet, wine.windows_path(DEMO)]
    check_demo(command, wine.environment(wine.prefix()))


def check_demo(command: list[str | Path], environment: dict[str, str]) -> None:
    """It says that it is ready, and ends by itself when its input does."""
    done = subprocess.run(
        [*command, "--native", "1"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ready, pid = done.stdout.split()
    assert ready == "ready"
    assert pid.isdecimal()
