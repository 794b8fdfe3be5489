"""dotnet/vendor.py gives the same lib/ from any folder, and it is the one committed."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import paths


@pytest.mark.gate("linux", "toolchain")
def test_another_checkout_gives_equal_bytes(tmp_path: Path) -> None:
    checkout = tmp_path / "elsewhere" / "copy"
    shutil.copytree(
        paths.CHECKOUT / "dotnet", checkout / "dotnet", ignore=shutil.ignore_patterns("bin", "obj")
    )
    command: list[str | Path] = [
        sys.executable,
        checkout / "dotnet" / "vendor.py",
        "--toolchain",
        paths.TOOLCHAIN,
    ]
    environment = os.environ | {"XDG_CACHE_HOME": str(paths.cache())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    here, there = _files(paths.CHECKOUT / "lib"), _files(checkout / "lib")
    assert there.keys() == here.keys()
    changed = [name for name in here if not filecmp.cmp(here[name], there[name], shallow=False)]
    assert changed == [], "run `make vendor`, and commit lib/"
    assert {n: p.stat().st_mode for n, p in there.items()} == {
        n: p.stat().st_mode for n, p in here.items()
    }


def _files(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
