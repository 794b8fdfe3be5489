"""What our modules for Windows declare is what a C compiler for Windows knows by the same names."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidumper.platforms.windows import (
    debugapi,
    fileapi,
    memoryapi,
    processapi,
    snapshotapi,
    toolhelpapi,
    win32,
)

DECLARED = {
    name: value
    for module in (debugapi, fileapi, memoryapi, processapi, snapshotapi, toolhelpapi, win32)
    for name, value in vars(module).items()
}
PROGRAM = Path(__file__).with_name("win32_layout.c")
COMPILER = "x86_64-w64-mingw32-gcc"
OTHERWISE_CALLED = {
    "TOKEN_PRIVILEGES": {
        "LuidLow": "Privileges[0].Luid.LowPart",
        "LuidHigh": "Privileges[0].Luid.HighPart",
        "Attributes": "Privileges[0].Attributes",
    },
}
"""Members that are parts of unions and arrays in the headers."""
SIZE_DIFFERS = {"PEB", "RTL_USER_PROCESS_PARAMETERS"}
"""Of these the beginning is declared alone."""
OWN_NAMES = {"INVALID_HANDLE"}

pytestmark = pytest.mark.gate("mingw")


def structures() -> Iterator[tuple[str, Any]]:
    for name, kind in DECLARED.items():
        if (
            isinstance(kind, type)
            and issubclass(kind, ctypes.Structure)
            and hasattr(kind, "_fields_")
        ):
            yield name, kind


def constants() -> dict[str, int]:
    """Numbers by the headers' names; those of information classes are no macros."""
    return {
        name: value
        for name, value in DECLARED.items()
        if isinstance(value, int)
        and not name.startswith("_")
        and not name.endswith("_CLASS")
        and name not in OWN_NAMES
    }


def members(kind: Any, prefix: str = "", start: int = 0) -> Iterator[tuple[str, int, int]]:
    for name, member in kind._fields_:
        offset = start + getattr(kind, name).offset
        if issubclass(member, ctypes.Union):
            yield from members(member, f"{prefix}{name}.", offset)
        elif not name.startswith("Reserved"):
            yield prefix + name, offset, ctypes.sizeof(member)


def compiled(probes: list[str], folder: Path) -> dict[str, tuple[int, int]]:
    (folder / "probes.inc").write_text("\n".join(probes))
    command = [COMPILER, "-S", "-w", "-o", "-", f"-I{folder}", str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line[2:].split() for line in done.stdout.splitlines() if line.startswith("->")]
    return {name: (int(a), int(b)) for name, a, b in rows}


def test_structures(tmp_path: Path) -> None:
    ours: dict[str, tuple[int, int]] = {}
    probes = []
    for name, kind in structures():
        if name not in SIZE_DIFFERS:
            ours[name] = (0, ctypes.sizeof(kind))
            probes.append(f"SIZE({name})")
        for path, offset, size in members(kind):
            ours[f"{name}.{path}"] = (offset, size)
            called = OTHERWISE_CALLED.get(name, {}).get(path, path)
            probes.append(f"FIELD({name}, {path}, {called})")
    assert len(ours) > 80
    assert ours == compiled(probes, tmp_path)


def test_values(tmp_path: Path) -> None:
    ours = constants()
    assert len(ours) > 30
    theirs = compiled([f"VALUE({name})" for name in ours], tmp_path)
    assert ours == {name: value & 0xFFFFFFFF for name, (value, _) in theirs.items()}


def test_protections(tmp_path: Path) -> None:
    letters = {
        "PAGE_READONLY": "r--",
        "PAGE_READWRITE": "rw-",
        "PAGE_WRITECOPY": "r--",
        "PAGE_EXECUTE": "--x",
        "PAGE_EXECUTE_READ": "r-x",
        "PAGE_EXECUTE_READWRITE": "rwx",
        "PAGE_EXECUTE_WRITECOPY": "r-x",
    }
    values = compiled([f"VALUE({name})" for name in letters], tmp_path)
    assert {values[name][0]: text for name, text in letters.items()} == memoryapi.PROTECTION
