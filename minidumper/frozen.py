"""What differs in a program that PyInstaller froze (dotnet/freeze/)."""

from __future__ import annotations

import sys


def library_variables() -> dict[str, str]:
    """Variables for .NET programs that we start: a bare system lacks the C++ library they need.

    https://pyinstaller.org/en/stable/runtime-information.html has `sys._MEIPASS`.
    """
    folder: str | None = getattr(sys, "_MEIPASS", None)
    return {"LD_LIBRARY_PATH": folder} if folder else {}
