"""Where the .NET that hosts ClrMD lies, and where the bridge."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import HostRuntimeNotFoundError

BRIDGE = "MiniDumper.Bridge"
GUARDIAN = "MiniDumper.Guardian"
_MIN_MAJOR = 10
"""The bridge and ClrMD 4.2 are built for .NET 10."""
_EMBEDDED = {"linux-x86_64": "linux-x64", "win-amd64": "win-x64"}
"""Systems by sysconfig's name, and the folder of `lib/host` that serves them."""
_INSTALLED = (
    "/usr/share/dotnet",
    "/usr/lib/dotnet",
    "/usr/lib64/dotnet",
    "/usr/local/share/dotnet",
)
"""Where packages of .NET for Linux lie: https://learn.microsoft.com/dotnet/core/install/linux"""


@dataclass(frozen=True, slots=True)
class HostLocation:
    """`dotnet_root` is laid out as DOTNET_ROOT; `bridge_dir` holds the bridge and ClrMD."""

    dotnet_root: Path
    bridge_dir: Path

    @property
    def bridge(self) -> Path:
        """The bridge's assembly."""
        return self.bridge_dir / f"{BRIDGE}.dll"

    @property
    def guardian(self) -> list[str]:
        """The command of the process that holds a target while we wait (Linux)."""
        program = self.bridge_dir.parent / "guardian" / f"{GUARDIAN}.dll"
        return [str(self.dotnet_root / "dotnet"), "exec", str(program)]

    @property
    def runtime_config(self) -> Path:
        """How the host is to run it."""
        return self.bridge_dir / f"{BRIDGE}.runtimeconfig.json"


def find_host() -> HostLocation:
    """The embedded .NET of this system, else an installed one.

    Raises:
        HostRuntimeNotFoundError: there is neither, or the bridge is missing.
    """
    lib = _lib()
    bridge_dir = lib / "bridge"
    if not (bridge_dir / f"{BRIDGE}.dll").is_file():
        raise HostRuntimeNotFoundError(
            f"the bridge is missing in {bridge_dir}", hint="install minidumper again"
        )
    for root in (*_embedded(lib), *_installed()):
        if _serves(root):
            return HostLocation(root, bridge_dir)
    runtime = f".NET {_MIN_MAJOR}" if sys.maxsize > 2**32 else f"x86 .NET {_MIN_MAJOR}"
    raise HostRuntimeNotFoundError(
        f"no {runtime} or newer was found to read the target's runtime with",
        hint=f"install the {runtime} runtime, or set DOTNET_ROOT to where it lies",
    )


def _lib() -> Path:
    """`lib/` is part of the installed package, and lies beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "lib"
    return installed if installed.is_dir() else package.parent / "lib"


def _embedded(lib: Path) -> Iterator[Path]:
    name = _EMBEDDED.get(sysconfig.get_platform())
    if name:
        yield lib / "host" / name


def _installed() -> Iterator[Path]:
    for variable, below in (("DOTNET_ROOT", ""), ("ProgramFiles", "dotnet")):
        if os.environ.get(variable):
            yield Path(os.environ[variable], below)
    yield from map(Path, _INSTALLED)
    command = shutil.which("dotnet")
    if command:
        yield Path(command).resolve().parent


def _serves(root: Path) -> bool:
    """Whether a folder has both parts that hosting takes, new enough."""
    folders = (root / "host" / "fxr", root / "shared" / "Microsoft.NETCore.App")
    return all(max(map(_major, folder.glob("*")), default=0) >= _MIN_MAJOR for folder in folders)


def _major(folder: Path) -> int:
    first = folder.name.partition(".")[0]
    return int(first) if first.isdecimal() else 0
