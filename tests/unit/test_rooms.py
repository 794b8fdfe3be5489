"""Every module stands in its room: imports go to a lower number only (docs/architecture.md, 3)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "minidumper"

ROOMS = [
    {"errors", "frozen", "_version"},
    {"ranges"},
    {"plan"},
    {"naming", "report"},
    {"target", "formats", "dbghelp"},
    {"watching", "images"},
    {"platforms", "clr", "dumpfile"},
    {"providers"},
    {"planning"},
    {"outputs"},
    {"capture", "verification", "heapstat", "dumpinfo"}
    | {"processes", "doctor", "regionmap", "stripping", "unpacking"},
    {"writer"},
    {"demo", "monitor"},
    {"cli", "minidumper"},
    {"__main__"},
]
"""From the lowest on: modules and packages; those of one room do not import each other."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> tuple[str, ...]:
    """minidumper/clr/host.py -> ("clr", "host")."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, package: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """What a module of `package` imports: ("minidumper", "clr", "host"), ("click",), …"""
    package = package or ("minidumper", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = (*base, *(node.module or "").split("."))
            source = tuple(part for part in source if part)
            if source == ("minidumper",):
                yield from ((*source, alias.name) for alias in node.names)
            else:
                yield source


def room(name: str) -> int:
    """The number of the room of a module or package; each has exactly one."""
    (number,) = [i for i, names in enumerate(ROOMS) if name in names]
    return number


def minidumper_imports(path: Path) -> Iterator[str]:
    """The modules and packages of minidumper that a module imports; its own package is none."""
    own = dotted(path)[:1]
    for source in imports(path):
        if source[0] == "minidumper" and source[1:2] != own:
            known = len(source) > 1 and any(source[1] in names for names in ROOMS)
            yield source[1] if known else "minidumper"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: ".".join(dotted(p)) or "minidumper")
def test_imports_go_to_a_lower_room_only(path: Path) -> None:
    own = (*dotted(path), "minidumper")[0]
    wrong = [name for name in minidumper_imports(path) if room(name) >= room(own)]
    assert not wrong, f"{own} stands in room {room(own)}: it may not import {wrong}"


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import os.path\nfrom minidumper import plan\nfrom minidumper.clr.host import x"
    )
    assert list(imports(module, package=("minidumper", "cli"))) == [
        ("os", "path"),
        ("minidumper", "plan"),
        ("minidumper", "clr", "host"),
    ]
    module.write_text("from . import talk\nfrom .. import capture\nfrom ..plan import DumpMode")
    assert list(imports(module, package=("minidumper", "cli"))) == [
        ("minidumper", "cli"),
        ("minidumper", "capture"),
        ("minidumper", "plan"),
    ]


def importers(*names: str) -> set[str]:
    """The modules that import one of these outside packages."""
    return {
        ".".join(dotted(path))
        for path in MODULES
        if any(source[0] in names for source in imports(path))
    }


def test_only_the_worker_hosts_a_clr() -> None:
    assert importers("clr", "pythonnet", "clr_loader") <= {"clr.worker"}


def test_only_the_command_line_talks() -> None:
    assert all(name.startswith("cli.") for name in importers("click", "rich"))


def asks_for_the_system(path: Path) -> bool:
    """Whether the module looks at sys.platform, os.name or platform.system."""
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("sys", "platform"), ("os", "name"), ("platform", "system")}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_the_system_is_asked_for_in_one_place() -> None:
    assert [dotted(path) for path in MODULES if asks_for_the_system(path)] == [("platforms",)]


def test_importing_minidumper_loads_no_clr_and_no_click() -> None:
    loads = "import sys, minidumper; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", loads],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"clr", "pythonnet", "clr_loader", "click", "rich"} & set(done.stdout.split())
