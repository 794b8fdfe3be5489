"""What a caller may want of a dump beside its memory: what Linux makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidumper.cli import main
from minidumper.dbghelp import CallbackHandler
from minidumper.dumpinfo import dump_info
from minidumper.errors import UsageError
from minidumper.formats.minidump import ExceptionInfo
from minidumper.writer import DumpWriter
from tests.support import gates

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace")


@pytest.fixture
def pid() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


def test_a_comment_is_in_the_dump(
    pid: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dump.dmp"
    DumpWriter("full", comment="vor dem Neustart: größer").write(pid, str(path))
    assert dump_info(path).comment == "vor dem Neustart: größer"
    assert main.run(["info", str(path)]) == 0
    assert "comment     vor dem Neustart: größer\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option",
    [
        {"user_streams": [(0x10001, b"bytes")]},
        {"exception": ExceptionInfo(1, 0xE0434352, address=0)},
        {"callback": CallbackHandler()},
        {"writer": "native"},
        {"dbghelp": "/usr/lib/dbghelp.dll"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_only_minidumps_have_is_refused(
    pid: int, tmp_path: Path, option: dict[str, Any]
) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=f"^{name}: for the minidumps of Windows alone"):
        DumpWriter("full", comment="x", **option).write(pid, str(tmp_path / "dump.dmp"))
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_windows_are_refused(
    pid: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-ma", "--writer", "dbghelp", "--dbghelp", "/x.dll", str(pid), str(tmp_path)]
    assert main.run(words) == 2
    said = "writer, dbghelp: for the minidumps of Windows alone; Linux has ELF cores"
    assert capsys.readouterr().err == f"minidumper: error: {said}\n"
    assert list(tmp_path.iterdir()) == []
