"""What `make dist` freezes: the command line, and by hidden first words worker and watchdog."""

from __future__ import annotations

import os
import sys

from minidumper import platforms
from minidumper.clr import worker
from minidumper.clr.client import WORKER_WORD
from minidumper.platforms.linux import watchdog


def main() -> int:
    """Run the worker, the watchdog or the command line; returns the exit code."""
    if sys.argv[1:2] == [WORKER_WORD]:
        worker.main(sys.argv[2], platforms)
    if sys.argv[1:2] == [watchdog.WATCHDOG_WORD]:
        watchdog.main(sys.argv[2])
    _restore_environment()
    from minidumper.cli.main import main as command_line

    return command_line()


def _restore_environment() -> None:
    """Take back what PyInstaller's bootloader set: other programs have libraries of their own.

    https://pyinstaller.org/en/stable/runtime-information.html#ld-library-path-libpath-considerations
    """
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    os.environ.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]


if __name__ == "__main__":
    raise SystemExit(main())
