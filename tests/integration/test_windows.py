"""The tests of tests/windows, run by Windows Python under Wine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import targets, wine

pytestmark = [pytest.mark.gate("wine"), pytest.mark.usefixtures("wine_session")]

FOLDER = Path(__file__).parents[1] / "windows"
HELPERS = {"__init__", "clones", "conftest", "dbgeng", "plans", "programs"}
FILES = [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in HELPERS]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_inside_windows(file: Path) -> None:
    done = wine.python(
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--color=no",
        "--require=all",
        file,
        env={
            "MINIDUMPER_TEST_DOTNET": wine.windows_path(wine.windows() / "dotnet.exe"),
            "MINIDUMPER_TEST_DEBUGGERS": wine.windows_path(wine.windows() / "x64"),
            "MINIDUMPER_TEST_TARGETS": wine.windows_path(targets.built()),
        },
    )
    assert done.status == 0, done.output
    assert " passed" in done.output
