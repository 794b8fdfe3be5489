"""What lib/ holds is what its manifest says, and no more than was agreed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.support import paths

LIB = paths.CHECKOUT / "lib"
ENTRIES: list[dict[str, str]] = json.loads((LIB / "MANIFEST.json").read_bytes())["files"]


def files() -> dict[str, Path]:
    return {path.relative_to(LIB).as_posix(): path for path in LIB.rglob("*") if path.is_file()}


def test_manifest_equals_the_files() -> None:
    found = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files().items()
        if name != "MANIFEST.json"
    }
    assert found == {entry["path"]: entry["sha256"] for entry in ENTRIES}


def test_every_entry_names_its_package_and_version() -> None:
    assert [entry for entry in ENTRIES if not (entry["package"] and entry["version"])] == []


def test_every_foreign_package_has_its_licence() -> None:
    ours = ("dotnet/MiniDumper.Bridge", "dotnet/MiniDumper.Guardian", "dotnet/targets/Demo")
    licensed = {entry["package"] for entry in ENTRIES if entry["path"].startswith("licences/")}
    assert licensed == {entry["package"] for entry in ENTRIES} - set(ours)
    texts = [path.read_text("utf-8-sig") for name, path in files().items() if "LICENSE" in name]
    assert all("Copyright" in text or "LICENSE TERMS" in text for text in texts)


@pytest.mark.parametrize("rid", ["linux-x64", "win-x64"])
def test_hosts_are_laid_out_as_dotnet_roots(rid: str) -> None:
    host = LIB / "host" / rid
    assert {path.name for path in host.iterdir()} - {"dotnet", "dotnet.exe"} == {"host", "shared"}
    (framework,) = (host / "shared" / "Microsoft.NETCore.App").iterdir()
    assert [path.name for path in (host / "host" / "fxr").iterdir()] == [framework.name]


@pytest.mark.gate("linux")
def test_programs_can_be_run_and_nothing_else() -> None:
    executable = {name.rpartition("/")[2] for name, path in files().items() if _mode(path) & 0o111}
    assert executable == {"dotnet", "createdump"}


def test_lib_stays_below_90_mb_on_disk() -> None:
    assert sum(path.stat().st_size + 4095 & ~4095 for path in files().values()) < 90_000_000


def _mode(path: Path) -> int:
    return path.stat().st_mode
