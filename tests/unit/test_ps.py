"""The table of `ps`, and what /proc's bytes mean to it."""

from __future__ import annotations

import json

import pytest

from minidumper.cli import main, ps
from minidumper.platforms.finding import DotnetProcess
from minidumper.processes import ProcessRow, dotnet_processes
from minidumper.target import VmRegion
from tests.support import gates

gates.demand("linux", module=True)

from minidumper.platforms.linux.dotnet import _committed_heap  # noqa: E402

ROW = ProcessRow(
    *(42, 42, "app", "Shop", "10.0.14", "server", 1_500_000, 90_000_000, ""),
    *("dotnet Shop.dll", ""),
)
HIDDEN = ProcessRow(7, 1, "root", "dotnet", "", "", None, 1000, "0123456789ab", "dotnet", "no way")


def test_the_table_shows_what_there_is_and_what_is_missing() -> None:
    assert ps.text([ROW, HIDDEN]) == [
        "  PID  USER  .NET     GC        HEAP      RSS  CONTAINER     NAME    COMMAND",
        "   42  app   10.0.14  server  1.5 MB  90.0 MB  -             Shop    dotnet Shop.dll",
        "7 (1)  root  -        -            -   1.0 kB  0123456789ab  dotnet  dotnet",
        "  no way",
    ]


def test_a_column_without_content_is_left_out() -> None:
    assert "CONTAINER" not in ps.text([ROW])[0]


def test_no_process_is_told_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("minidumper.platforms.dotnet_processes", lambda: iter(()))
    assert main.run(["ps"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "minidumper: no .NET process can be seen\n")


def test_the_folder_tells_the_version_and_the_dll_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = DotnetProcess(
        pid=9,
        namespace_pid=9,
        user="app",
        name="dotnet",
        arguments=("dotnet", "exec", "/app/Shop.dll", "x"),
        runtime="/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.4/libcoreclr.so",
        root="/nowhere",
        server_gc=None,
        heap=None,
        rss=0,
        container="",
        missing="",
    )
    monkeypatch.setattr("minidumper.platforms.dotnet_processes", lambda: iter([found]))
    (row,) = dotnet_processes()
    assert (row.name, row.version, row.gc) == ("Shop", "8.0.4", "")
    stray = found._replace(runtime="/app/libcoreclr.so")
    monkeypatch.setattr("minidumper.platforms.dotnet_processes", lambda: iter([stray]))
    assert [row.version for row in dotnet_processes()] == [""]


def test_the_heap_is_what_lies_before_the_rest_of_the_reserved_range() -> None:
    mb = 1 << 20
    base = 0x7000_0000_0000

    def region(start: int, end: int, protection: str) -> VmRegion:
        return VmRegion(base + start * mb, base + end * mb, protection)

    regions = [
        region(0, 2, "rw-p"),  # the GC's bookkeeping, and the hole behind it
        region(2, 402, "---p"),
        region(402, 406, "rw-p"),
        region(406, 409, "---p"),  # given back
        region(409, 412, "rw-p"),
        region(412, 262_144, "---p"),
    ]
    assert _committed_heap(regions) == 7 * mb
    assert _committed_heap(regions[:-1]) is None
    assert _committed_heap([]) is None


def test_json_is_written_however_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["ps", "--json", "-q"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
