"""The demonstration: a small .NET program is started, dumped in all modes, and read back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .capture import Capture
from .clr.host import HostLocation, find_host
from .errors import CaptureError, HostRuntimeNotFoundError
from .frozen import library_variables
from .outputs import Progress
from .plan import DumpMode
from .platforms import open_target
from .report import CaptureReport
from .verification import VerifyReport, verify

READY_S = 60.0
"""Seconds that the program may take to build its heap; 1 on a quiet machine."""
_END_S = 10.0  # for its orderly end


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The dumps of one stop, the heap dump read back, and what createdump makes of the same."""

    dumps: tuple[CaptureReport, ...]
    verified: VerifyReport
    createdump_size: int | None
    """Bytes of createdump's heap dump; None where there is no createdump."""

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "dumps": [dump.as_dict() for dump in self.dumps],
            "createdump_size": self.createdump_size,
            "verify": self.verified.as_dict(),
        }


def demonstrate(folder: Path, *, progress: Progress | None = None) -> DemoReport:
    """Start the demo program, dump it into `folder` in every mode, and verify the heap dump.

    Raises:
        HostRuntimeNotFoundError: there is no .NET to run it on, or the program is missing.
        MiniDumperError: a capture failed.
    """
    host = find_host()
    with _program(host) as pid:
        with open_target(pid) as target, Capture(target, list(DumpMode)) as capture:
            paths = [str(folder / f"Demo{mode.suffix}.dmp") for mode in DumpMode]
            dumps = capture.write(paths, progress=progress)
        createdump_size = _createdump(host, pid)
    verified = verify(paths[list(DumpMode).index(DumpMode.HEAP)])
    return DemoReport(tuple(dumps), verified, createdump_size)


@contextlib.contextmanager
def _program(host: HostLocation) -> Iterator[int]:
    """The pid of the demo program once its heap stands; it is gone afterwards."""
    program = host.bridge_dir.parent / "targets" / "Demo.dll"
    if not program.is_file():
        raise HostRuntimeNotFoundError(f"{program} is missing", hint="install minidumper again")
    with subprocess.Popen(
        [_executable(host.dotnet_root / "dotnet"), program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
    ) as process:
        assert process.stdin
        assert process.stdout
        watchdog = threading.Timer(READY_S, process.kill)
        watchdog.start()
        try:
            said = process.stdout.readline().split()
            if said[:1] != [b"ready"]:
                raise CaptureError(
                    f"the demo program did not come up on the .NET of {host.dotnet_root}",
                    stage="demo",
                )
            watchdog.cancel()
            yield process.pid
            process.stdin.close()  # it ends when its input does
            process.wait(_END_S)
        finally:
            watchdog.cancel()
            process.kill()


def _environment() -> dict[str, str]:
    """The caller's, without what steers a .NET process."""
    steering = ("DOTNET_", "COMPLUS_", "CORECLR_", "LD_")
    own = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(steering)
    }
    return own | library_variables()


def _createdump(host: HostLocation, pid: int) -> int | None:
    """The size of what the runtime's own tool writes as a heap dump of the same process."""
    found = sorted(host.dotnet_root.glob("shared/Microsoft.NETCore.App/*/createdump*"))
    if not found:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "createdump.dmp")
        done = subprocess.run(
            [found[-1], "--withheap", "-f", path, str(pid)],
            env=_environment(),
            capture_output=True,
            check=False,
        )
        return path.stat().st_size if done.returncode == 0 else None


def _executable(path: Path) -> Path:
    return path if path.is_file() else path.with_suffix(".exe")
