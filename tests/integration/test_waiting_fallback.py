"""The CLR side fails at an unhandled exception: the dump comes all the same, and says so."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from minidumper import BridgeError, Monitor
from minidumper.clr import client
from minidumper.plan import DumpMode
from minidumper.ranges import Reason
from minidumper.report import CaptureReport
from tests.support import gates, oracle, runtimes
from tests.support.targets import Running, running
from tests.support.waiting import tell, watched

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")


def dumped(
    app: Running, folder: Path, how: int, monkeypatch: pytest.MonkeyPatch, *, fallback: bool
) -> list[CaptureReport]:
    """The dumps of an unhandled exception, for which every worker gets a signal."""
    monitor = Monitor(app.pid, DumpMode.HEAP, f"{folder}/", fallback=fallback)
    monitor.on_exception(2)
    with watched(monitor) as taken:
        for name in ("OPEN_S", "COLLECT_S", "REHEARSE_S"):
            monkeypatch.setattr(client, name, 0.3)
        stopped = threading.Event()
        hunter = threading.Thread(target=_hunt, args=(how, stopped))
        hunter.start()
        try:
            tell(app, "end unhandled")
            taken.thread.join()
        finally:
            stopped.set()
            hunter.join()
    if taken.error:
        raise taken.error
    return taken.reports


def _hunt(how: int, stopped: threading.Event) -> None:
    """Send a signal to each worker that there is, or will be."""
    while not stopped.wait(0.01):
        for child in psutil.Process().children():
            try:
                if "minidumper.clr.worker" in " ".join(child.cmdline()):
                    os.kill(child.pid, how)
            except (psutil.Error, ProcessLookupError):
                continue


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGSEGV], ids=["hangs", "crashes"])
def test_all_private_memory_instead(
    how: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("Faults") as app:
        (report,) = dumped(app, tmp_path, how, monkeypatch, fallback=True)
    assert report.totals[Reason.ALL_MEMORY] > 1_000_000
    assert any("all private memory was taken" in warning.message for warning in report.warnings)
    dac = runtimes.framework("10.0.14") / "libmscordaccore.so"
    found = oracle.sections(Path(report.path), dac, ["exceptions", "stacks"])
    assert any("Faults.RareException" in line for line in found["exceptions"])
    assert any("Faults.Program.Main()" in line for line in found["stacks"])


def test_none_when_it_is_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("Faults") as app, pytest.raises(BridgeError):
        dumped(app, tmp_path, signal.SIGSEGV, monkeypatch, fallback=False)
    assert not list(tmp_path.iterdir())
