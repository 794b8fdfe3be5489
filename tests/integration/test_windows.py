"""The tests of tests/windows, run by Windows Python under Wine."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import targets, wine

pytestmark = [pytest.mark.gate("wine"), pytest.mark.usefixtures("wine_session")]

FOLDER = Path(__file__).parents[1] / "windows"
HELPERS = {"__init__", "clones", "conftest", "dbgeng", "plans", "programs"}
FILES = [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in HELPERS]


WORKERS = 2
"""One file at a time leaves a processor idle for most of eight minutes."""


def run(file: Path) -> wine.Done:
    return wine.python(
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


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> dict[Path, Future[wine.Done]]:
    """What came of the files whose tests were chosen."""
    targets.built()  # once, before two ask for it
    names = {item.name for item in request.session.items}
    chosen = [file for file in FILES if f"{test_inside_windows.__name__}[{file.stem}]" in names]
    with ThreadPoolExecutor(WORKERS) as pool:
        return {file: pool.submit(run, file) for file in chosen}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_inside_windows(runs: dict[Path, Future[wine.Done]], file: Path) -> None:
    done = runs[file].result()
    assert done.status == 0, done.output
    assert " passed" in done.output
