"""The client against a worker without .NET that does as it is told (support/fake_worker.py)."""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from minidumper.clr import client as client_module
from minidumper.clr.client import ClrClient
from minidumper.clr.dac import Dac
from minidumper.clr.host import HostLocation
from minidumper.clr.runtime import Runtime, RuntimeKind
from minidumper.errors import BridgeError
from minidumper.ranges import Reason, ReasonedRange
from minidumper.target import MemorySource, ModuleInfo, Target, ThreadInfo
from tests.support import paths

FAKE_WORKER = Path(__file__).parents[1] / "support" / "fake_worker.py"
RUNTIME = Runtime(
    RuntimeKind.CORECLR, "/there/libcoreclr.so", 0x10000, 0x20000, "ab", version="10.0.14"
)
BOOT = f"import sys; sys.path.insert(0, {str(paths.CHECKOUT)!r}); import runpy; " + (
    f"runpy.run_path({str(FAKE_WORKER)!r}, run_name='__main__')"
)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    location = HostLocation(Path("/host"), Path("/bridge"))
    monkeypatch.setattr(client_module, "find_host", lambda: location)


@contextmanager
def worker(behaviour: str, tmp_path: Path) -> Iterator[ClrClient]:
    """A client; the files behind the target's memory and the DAC say "memory" and "dac"."""
    files = []
    for text in ("memory", "dac"):
        (tmp_path / text).write_text(text)
        files.append(os.open(tmp_path / text, os.O_RDONLY))
    target = SimpleNamespace(
        pid=42,
        memory_source=lambda: MemorySource(files[0], [(0x1000, 0x2000, 0)]),
        modules=lambda: [ModuleInfo("/there/libcoreclr.so", 0x10000, 0x20000)],
        threads=lambda: [ThreadInfo(43, 0, 0, b"C" * 8)],
    )
    command = [sys.executable, "-c", BOOT, behaviour]
    try:
        with ClrClient.start(
            cast(Target, target), RUNTIME, Dac(Path("/there/dac"), files[1]), command=command
        ) as client:
            yield client
    finally:
        for file in files:
            os.close(file)


def ask(client: ClrClient, **more: Any) -> tuple[dict[str, Any], bytes]:
    return client._ask("collect", more, b"!", deadline_s=60)


def test_what_a_worker_is_told(tmp_path: Path) -> None:
    with worker("answer", tmp_path) as client:
        facts, data = ask(client, minimal=True)
    opened, asked = facts["opened"], facts["asked"]
    assert opened["command"] == "open"
    assert opened["pid"] == 42
    assert opened["modules"] == [["/there/libcoreclr.so", 0x10000, 0x20000]]
    assert opened["runtime"]["version"] == "10.0.14"
    assert opened["memory"]["table"] == [[0x1000, 0x2000, 0]]
    assert opened["handles"]["memory"] == "memory"
    assert opened["handles"]["dac"] == "dac"
    assert (asked["command"], asked["minimal"], data) == ("collect", True, b"!")


def test_nothing_of_the_callers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOTNET_gcServer", "COMPlus_X", "CORECLR_ENABLE_PROFILING", "LD_X", "PYTHONX"):
        monkeypatch.setenv(name, "1")
    with worker("answer", tmp_path) as client:
        environment = ask(client)[0]["environment"]
    ours = {"DOTNET_EnableDiagnostics", "SYSTEMROOT", "LC_CTYPE"}  # the last by Python itself
    assert set(environment) <= ours
    assert environment["DOTNET_EnableDiagnostics"] == "0"


def test_ranges_come_as_columns(tmp_path: Path) -> None:
    columns = struct.pack("<4Q2I", 0x1000, 0x5000, 0x3000, 0x6000, 1, 0x804)
    with worker("answer", tmp_path) as client:
        client._ask = lambda *_, **__: ({"warnings": ["w"]}, columns)  # type: ignore[method-assign]
        regions = client.collect([])
    assert regions.ranges == [
        ReasonedRange(0x1000, 0x3000, Reason.GC_HEAP),
        ReasonedRange(0x5000, 0x6000, Reason.HANDLE_TABLE | Reason.DAC_READ),
    ]
    assert [w.message for w in regions.warnings] == ["w"]


def test_contexts_follow_the_threads(tmp_path: Path) -> None:
    with worker("answer", tmp_path) as client:
        calls = []
        client._ask = (  # type: ignore[method-assign]
            lambda command, request, data, **_: (
                calls.append((command, request["threads"], data)) or ({"warnings": []}, b"")  # type: ignore[func-returns-value]
            )
        )
        client.collect([ThreadInfo(7, 0, 0, b"a" * 4), ThreadInfo(9, 0, 0, b"b" * 4)])
    assert calls == [("collect", [7, 9], b"aaaabbbb")]


def test_progress_before_the_answer(tmp_path: Path) -> None:
    seen = []
    with worker("progress", tmp_path) as client:
        inspection = client.inspect(progress=lambda *step: seen.append(step))
    assert seen == [("objects", step, 3) for step in range(3)]
    assert inspection.problems == ()


def test_what_the_bridge_cannot_do_is_an_error(tmp_path: Path) -> None:
    with worker("refuse", tmp_path) as client, pytest.raises(BridgeError) as caught:
        ask(client)
    assert str(caught.value) == "the CLR side failed to open: the DAC refuses"
    assert caught.value.exit_status is None


def test_a_worker_that_leaves(tmp_path: Path) -> None:
    with worker("leave", tmp_path) as client, pytest.raises(BridgeError) as caught:
        ask(client)
    assert caught.value.exit_status == 7
    assert "ended during collect: exit status 7" in str(caught.value)


@pytest.mark.gate("linux")
def test_a_crash_has_its_signal_and_last_words(tmp_path: Path) -> None:
    with worker("crash", tmp_path) as client, pytest.raises(BridgeError) as caught:
        ask(client)
    assert caught.value.exit_status == -signal.SIGSEGV
    assert "ended during collect: SIGSEGV (last words)" in str(caught.value)


def test_one_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker("hang", tmp_path) as client:
        client._receive("open", 60, None)  # however long it takes to start
        client._opened = True
        monkeypatch.setattr(client_module, "COLLECT_S", 0.01)
        with pytest.raises(BridgeError, match=r"did not collect within .* and was killed"):
            client.collect([])
        assert client._process.returncode is not None


def test_closing_ends_a_busy_worker(tmp_path: Path) -> None:
    with worker("hang", tmp_path) as client:
        process = psutil.Process(client._process.pid)
    assert not process.is_running()
