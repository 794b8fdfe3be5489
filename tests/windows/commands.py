"""The commands that write dumps, as a user of Windows gives them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from minidump.minidumpfile import MinidumpFile

from minidumper import dumpinfo
from minidumper.cli import main
from minidumper.clr import client, host
from minidumper.errors import HostRuntimeNotFoundError
from minidumper.formats.minidump_reader import read_minidump
from tests.support.targets import Running

from .programs import DEBUGGERS, python, running


@pytest.fixture(scope="module")
def target() -> Iterator[Running]:
    with running() as program:
        yield program
        assert program.alive()


@pytest.mark.parametrize("writer", ["dbghelp", "native"])
def test_each_writer_writes_each_mode(
    target: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], writer: str
) -> None:
    words = ["-mm", "-mh", "-ma", "--writer", writer, "--json", "-o", str(tmp_path)]
    assert main.run([*words, str(target.pid)]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["mode"] for report in reports] == ["minimal", "heap", "full"]
    assert [report["warnings"] for report in reports] == [[], [], []]
    for report in reports:
        info = dumpinfo.dump_info(Path(report["path"]))
        assert info.pid == target.pid
        # Of the two, dbghelp alone counts the process's memory.
        streams = {content.name for content in info.contents}
        assert ("ProcessVmCountersStream" in streams) == (writer == "dbghelp")


def test_a_dump_to_standard_output(target: Running) -> None:
    command = [sys.executable, "-m", "minidumper", "-mh", "-o", "-", str(target.pid)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"heap dump of process" in done.stderr
    dump = MinidumpFile.parse_buff(io.BytesIO(done.stdout))
    memory = dump.memory_segments_64.memory_segments
    last = memory[-1]
    assert last.start_file_address + last.size == len(done.stdout)
    read = read_minidump(io.BytesIO(done.stdout))
    assert [s.start for s in read.segments] == [s.start_virtual_address for s in memory]
    assert read.streams.own
    assert read.streams.own["mode"] == "heap"


def test_a_compressed_dump_is_read_in_place(
    target: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "heap.dmp.zst"
    assert main.run(["-mh", "--async", "-o", str(path), str(target.pid)]) == 0
    assert main.run(["verify", str(path)]) == 0
    assert "all of it can be read" in capsys.readouterr().out


def test_another_dbghelp(
    target: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("dbghelp.dll", "dbgcore.dll"):
        shutil.copy(Path(os.environ[DEBUGGERS], name), other)
    place = tmp_path / "dump.dmp"
    words = ["-mm", "--dbghelp", str(other / "dbghelp.dll"), "--json", str(target.pid), str(place)]
    assert main.run(words) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    # Windows lets no file go that a program has loaded.
    with pytest.raises(OSError):  # noqa: PT011 - the system's words
        (other / "dbghelp.dll").unlink()


def test_dbghelp_is_given_by_its_full_path(
    target: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-mm", "--dbghelp", "dbghelp.dll", str(target.pid), str(tmp_path)]
    assert main.run(words) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "minidumper: error: dbghelp.dll is no full path: dbghelp is never searched for"
    assert hint == f"hint: --dbghelp {Path.cwd() / 'dbghelp.dll'}"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_dbghelp_is_told_of(
    target: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-mm", "--dbghelp", r"C:\nowhere\dbghelp.dll", str(target.pid), str(tmp_path)]
    assert main.run(words) == 0
    assert r"written without dbghelp, because cannot use C:\nowhere" in capsys.readouterr().out


def test_a_process_of_another_size_of_pointers_or_none_at_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with python("input()") as process:
        assert main.run(["-mh", str(process.pid)]) == 1
    assert "-ma" in capsys.readouterr().err
    assert main.run(["-mh", "99999996"]) == 3


def test_a_process_that_nobody_may_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A security descriptor that lets nobody in (SDDL), DACL_SECURITY_INFORMATION.
    code = """
import ctypes, sys
from ctypes import byref, c_uint32, c_void_p, c_wchar_p
advapi32 = ctypes.WinDLL("advapi32")
descriptor = c_void_p()
advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
    c_wchar_p("D:P"), 1, byref(descriptor), None
)
print(advapi32.SetKernelObjectSecurity(c_void_p(-1), c_uint32(4), descriptor), flush=True)
sys.stdin.read()
"""
    with python(code) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        assert main.run(["-ma", str(process.pid), str(tmp_path)]) == 4
        assert "access denied\nhint: " in capsys.readouterr().err
        assert process.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_host_there_are_no_heap_dumps_but_all_others(
    target: Running,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> host.HostLocation:
        raise HostRuntimeNotFoundError("no x86 .NET 10", hint="install it")

    monkeypatch.setattr(client, "find_host", missing)
    assert main.run(["-mh", str(target.pid), str(tmp_path)]) == 1
    assert "no x86 .NET 10\nhint: install it" in capsys.readouterr().err
    assert main.run(["-mm", "-ma", str(target.pid), str(tmp_path)]) == 0
    assert "managed stacks left out: no x86 .NET 10" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["demo", "--json", "-o", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verify"]["problems"] == []
    assert len(report["dumps"]) == len(list(tmp_path.iterdir())) == 3
