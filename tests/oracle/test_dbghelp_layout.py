"""minidumper.dbghelp is laid out as a C compiler for Windows lays out Microsoft's structures."""

from __future__ import annotations

import ctypes
import enum
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidumper import dbghelp

PROGRAM = Path(__file__).with_name("dbghelp_layout.c")
COMPILERS = {32: "i686-w64-mingw32-gcc", 64: "x86_64-w64-mingw32-gcc"}
BASES = (dbghelp.Packed, dbghelp.PackedUnion)

pytestmark = pytest.mark.gate("mingw")


def records(bits: int) -> Iterator[tuple[str, Any]]:
    """Every structure and union of the package, as a host of `bits` has it."""
    for name in dbghelp.__all__:
        kind = getattr(dbghelp, name)
        if not isinstance(kind, type) or kind in BASES or name == "CONTEXT":
            continue
        # A compiler for 32 bits has no definition of the registers of 64.
        if issubclass(kind, (ctypes.Structure, ctypes.Union)) and (bits, name) != (
            32,
            "CONTEXT_AMD64",
        ):
            yield name, dbghelp.for_bits(kind, bits)


def members(kind: Any, prefix: str = "", start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Path, offset and size of each member, those of nameless parts as if they were its own."""
    for name, member in kind._fields_:
        offset = start + getattr(kind, name).offset
        nameless = name in getattr(kind, "_anonymous_", ())
        if not nameless:
            yield prefix + name, offset, ctypes.sizeof(member)
        if member.__name__.startswith("_") and not name.startswith("_"):
            yield from members(member, prefix if nameless else f"{prefix}{name}.", offset)


def expected(bits: int) -> dict[str, tuple[int, int]]:
    """The package's own table: name -> (offset, size), or (value, 0)."""
    table: dict[str, tuple[int, int]] = {}
    for name, kind in records(bits):
        table[name] = (0, ctypes.sizeof(kind))
        for path, offset, size in members(kind):
            table[f"{name}.{path}"] = (offset, size)
    for name in dbghelp.__all__:
        kind = getattr(dbghelp, name)
        if isinstance(kind, type) and issubclass(kind, enum.IntEnum | enum.IntFlag):
            table |= {key: (int(value), 0) for key, value in kind.__members__.items()}
    return table


def compiled(bits: int, names: list[str], folder: Path) -> dict[str, tuple[int, int]]:
    """The C compiler's table for the same names."""
    known = {name for name, _ in records(bits)}
    probes = []
    for name in names:
        record, _, member = name.partition(".")
        if member:
            probes.append(f"FIELD({record}, {member})")
        else:
            probes.append(f"SIZE({name})" if name in known else f"VALUE({name})")
    (folder / "probes.inc").write_text("\n".join(probes))
    command = [COMPILERS[bits], "-S", "-w", "-o", "-", f"-I{folder}", str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line[2:].split() for line in done.stdout.splitlines() if line.startswith("->")]
    return {name: (int(a), int(b)) for name, a, b in rows}


@pytest.mark.parametrize("bits", [32, 64])
def test_structures_and_values(bits: int, tmp_path: Path) -> None:
    ours = expected(bits)
    assert len(ours) > 700
    assert ours == compiled(bits, list(ours), tmp_path)
