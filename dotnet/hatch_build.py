"""Hatch's build hook: the wheel of a system carries lib/ with that system's .NET host.

MINIDUMPER_WHEEL (linux_x86_64 or win_amd64) builds for another system than this one.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HOSTS = {
    # The newest symbol that libcoreclr.so and libclrjit.so of .NET 10 ask for is GLIBC_2.27.
    "linux_x86_64": ("linux-x64", "manylinux_2_27_x86_64"),
    "win_amd64": ("win-x64", "win_amd64"),
}
SHARED = ("MANIFEST.json", "bridge", "guardian", "licences", "targets")


class LibHook(BuildHookInterface[Any]):
    """Puts lib/ into the wheel as `minidumper/lib`; a checkout's editable install reads ../lib."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files and the tag; elsewhere than on HOSTS an installed .NET is the host."""
        if version == "editable":
            return
        system = os.environ.get("MINIDUMPER_WHEEL") or sysconfig.get_platform().replace("-", "_")
        parts = list(SHARED)
        if system in HOSTS:
            host, tag = HOSTS[system]
            parts.append(f"host/{host}")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"
        for part in parts:
            build_data["force_include"][str(Path(self.root, "lib", part))] = (
                f"minidumper/lib/{part}"
            )
