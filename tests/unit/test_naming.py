"""Names of dump files: the default, tokens, names that are taken, names that cannot serve."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidumper.errors import UsageError
from minidumper.naming import output_paths
from minidumper.plan import DumpMode

WHEN = datetime(2026, 11, 24, 9, 8, 7)
HEAP = [DumpMode.HEAP]
ALL = [DumpMode.MINIMAL, DumpMode.HEAP, DumpMode.FULL]


def names(given: str | None, modes: list[DumpMode] = HEAP, **more: object) -> list[str]:
    options: dict[str, object] = {"name": "MyApp", "pid": 42, "when": WHEN} | more
    return output_paths(given, modes, **options)  # type: ignore[arg-type]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_default(here: Path) -> None:
    assert names(None) == ["MyApp_261124_090807.dmp"]


def test_several_modes_have_their_suffixes(here: Path) -> None:
    stem = "MyApp_261124_090807"
    assert names(None, ALL) == [f"{stem}_mini.dmp", f"{stem}_heap.dmp", f"{stem}_full.dmp"]


def test_taken_default_names_are_numbered(here: Path) -> None:
    (here / "MyApp_261124_090807.dmp").touch()
    assert names(None) == ["MyApp_261124_090807_1.dmp"]
    (here / "MyApp_261124_090807_1.dmp").symlink_to("nowhere")
    assert names(None) == ["MyApp_261124_090807_2.dmp"]


def test_no_name_is_given_twice(here: Path) -> None:
    before = ["x_090807.dmp", "x_090807_1.dmp"]
    given = names("x_HHMMSS.dmp", overwrite=True, repeated=True, given_before=before)
    assert given == ["x_090807_2.dmp"]


def test_folder(here: Path) -> None:
    (here / "dumps").mkdir()
    assert names("dumps") == ["dumps/MyApp_261124_090807.dmp"]
    assert names("missing" + os.sep) == ["missing/MyApp_261124_090807.dmp"]


def test_file_without_tokens_stays_as_it_is(here: Path) -> None:
    (here / "x.dmp").touch()
    assert names("x.dmp") == ["x.dmp"]
    assert names("a/b.dmp") == ["a/b.dmp"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("PROCESSNAME-PID.dmp", "MyApp-42.dmp"),
        ("YYMMDDHHMMSS", "261124090807"),
        ("core.PID", "core.42"),
        ("EXCEPTIONCODE.dmp", "E0434352.dmp"),
    ],
)
def test_tokens(here: Path, template: str, expected: str) -> None:
    assert names(template, exception_code="E0434352") == [expected]


def test_a_process_name_is_no_template(here: Path) -> None:
    assert names("PROCESSNAME.dmp", name="RAPID") == ["RAPID.dmp"]


def test_names_with_tokens_are_numbered_unless_they_overwrite(here: Path) -> None:
    (here / "42.dmp").touch()
    assert names("PID.dmp") == ["42_1.dmp"]
    assert names("PID.dmp", overwrite=True) == ["42.dmp"]


@pytest.mark.parametrize("more", [{"modes": ALL}, {"repeated": True}])
def test_one_file_for_several_dumps_is_refused(here: Path, more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"^x\.dmp is one file for several dumps$") as caught:
        names("x.dmp", **more)  # type: ignore[arg-type]
    assert "HHMMSS" in caught.value.hint
    assert names("PID.dmp", **more)[0].startswith("42")  # type: ignore[arg-type]


@given(st.text(min_size=1))
def test_any_process_name_gives_one_file_of_the_folder(name: str) -> None:
    (path,) = names(None, name=name)
    assert os.path.dirname(path) == ""
    assert path.endswith("_261124_090807.dmp")
    assert not set(path) & set('/\\:*?"<>|\0\n')


def test_compressed_files_have_two_extensions(here: Path) -> None:
    first = "MyApp_261124_090807.dmp.zst"
    assert names(None, packed=True) == [first]
    (here / first).touch()
    assert names(None, packed=True) == ["MyApp_261124_090807_1.dmp.zst"]
    assert names("PID.dmp.zst", ALL)[1] == "42_heap.dmp.zst"
    assert names("a.zst") == ["a.zst"]


def test_standard_output_is_one_file() -> None:
    assert names("-") == ["-"]
    with pytest.raises(UsageError, match="one file for several dumps"):
        names("-", ALL)
