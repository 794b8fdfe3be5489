"""The CLR side fails at an unhandled exception: the dump comes all the same, and says so."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from minidumper import BridgeError, Monitor
from minidumper.clr import client
from minidumper.plan import DumpMode
from minidumper.ranges import Reason
from minidumper.report import CaptureReport
from tests.support import gates, oracle, runtimes
from tests.support.targets import Running, command, running
from tests.support.waiting import launch, tell, watched

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
        for worker in _workers():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, how)


def _workers() -> Iterator[psutil.Process]:
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "minidumper.clr.worker" in " ".join(child.cmdline()):
                yield child


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


def kill_worker() -> None:
    (worker,) = _workers()
    worker.kill()


@pytest.mark.gate("perf-breakpoints")
@pytest.mark.parametrize(("chance", "word"), [(1, "caught rare"), (2, "end unhandled")])
def test_the_worker_starts_anew_that_was_killed(chance: int, word: str, tmp_path: Path) -> None:
    """As by the kernel where memory runs out: the moment is not lost."""
    with running("Faults") as app:
        monitor = Monitor(app.pid, DumpMode.HEAP, f"{tmp_path}/")
        monitor.on_exception(chance, filter="*Faults.RareException*", type="Faults.*")
        with watched(monitor) as taken:
            kill_worker()
            tell(app, word)
            taken.thread.join()
    assert taken.error is None
    (report,) = taken.reports
    assert report.moment
    assert report.moment.exception
    assert report.moment.exception.type == "Faults.RareException"
    assert report.warnings == ()


@pytest.mark.gate("perf-breakpoints")
def test_the_worker_starts_anew_that_crashed_as_it_was_asked_where_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = client.ClrClient.helpers
    crashes = iter([kill_worker])

    def helpers(self: client.ClrClient, start: int, end: int, names: Sequence[str]) -> Any:
        for crash in crashes:
            crash()
        return ask(self, start, end, names)

    monkeypatch.setattr(client.ClrClient, "helpers", helpers)
    with running("Faults") as app:
        monitor = Monitor(app.pid, DumpMode.HEAP, f"{tmp_path}/")
        monitor.on_exception(1)
        with watched(monitor) as taken:
            assert app.ask("caught rare") == "RareException"
            taken.thread.join()
    assert taken.error is None
    assert [report.warnings for report in taken.reports] == [()]


def test_none_when_it_is_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("Faults") as app, pytest.raises(BridgeError):
        dumped(app, tmp_path, signal.SIGSEGV, monkeypatch, fallback=False)
    assert not list(tmp_path.iterdir())


def cut_off(dac: Path) -> None:
    """As by a disk that was full."""
    os.truncate(dac, dac.stat().st_size // 2)


def put(code: bytes) -> Callable[[Path], None]:
    """Begin the function that makes the DAC with other instructions."""

    def damage(dac: Path) -> None:
        with open(dac, "r+b") as file:
            elf = ELFFile(file)
            symbols = elf.get_section_by_name(".dynsym")
            assert isinstance(symbols, SymbolTableSection)
            found = symbols.get_symbol_by_name("CLRDataCreateInstance")
            assert found
            (offset,) = elf.address_offsets(found[0]["st_value"])
            file.seek(offset)
            file.write(code)

    return damage


@pytest.fixture
def own_runtime(tmp_path: Path) -> Path:
    """The folder of a runtime whose DAC a test may damage."""
    root, folder = runtimes.root("10.0.14"), tmp_path / "dotnet"
    framework = runtimes.framework("10.0.14").relative_to(root)
    shutil.copytree(root / framework, folder / framework)
    shutil.copytree(root / "host", folder / "host")
    shutil.copy2(root / "dotnet", folder)
    return folder


def program_with(damage: Callable[[Path], None], runtime: Path) -> list[str | Path]:
    """The command of a program that has a damaged DAC."""
    (dac,) = runtime.rglob("libmscordaccore.so")
    damage(dac)
    return [runtime / "dotnet", *command("Faults", "10.0.14")[1:]]


def assert_private_memory(path: Path) -> None:
    """With a DAC that is whole stock ClrMD finds exception and heap, and gdb finds the threads."""
    found = oracle.sections(path, runtimes.dac("10.0.14"), ["exceptions", "heap"])
    assert any("Faults.RareException" in line for line in found["exceptions"])
    assert any("System.String" in line for line in found["heap"])
    gdb = ["gdb", "-nx", "-batch", "-ex", f"core-file {path}", "-ex", "info threads"]
    done = subprocess.run(gdb, capture_output=True, text=True, check=True)
    assert "LWP" in done.stdout
    assert "truncated" not in done.stderr


UNHANDLED = "end unhandled\n"
DAMAGES = {"cut off": cut_off, "crashes": put(b"\x0f\x0b")}  # ud2, Intel SDM volume 2


@pytest.mark.gate("gdb")
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_dac(kind: str, own_runtime: Path, tmp_path: Path) -> None:
    program = program_with(DAMAGES[kind], own_runtime)
    out = tmp_path / "out"
    out.mkdir()
    done = launch("-mm", "-mh", "-e", program=[out, *program], cwd=tmp_path, typed=UNHANDLED)
    assert done.returncode == 128 + signal.SIGABRT
    assert "warning: clr: managed stacks left out: the CLR side ended during open" in done.stderr
    assert "warning: clr: all private memory was taken instead of the exact set" in done.stderr
    heap = max(out.iterdir(), key=lambda path: path.stat().st_size)
    assert_private_memory(heap)


@pytest.mark.gate("gdb")
def test_a_dac_that_hangs(
    own_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_with(put(b"\xeb\xfe"), own_runtime)  # jmp to itself
    monkeypatch.setattr(client, "OPEN_S", 1)
    words = tmp_path / "words"
    words.write_text(UNHANDLED)
    script = f"exec {shlex.join(map(str, program))} <{words} >{tmp_path / 'said'} 2>&1"
    maps: dict[str, str] = {}

    def look(_written: int, _all: int) -> None:
        assert monitor.launched
        process = psutil.Process(monitor.launched.pid)
        maps.update((each.addr, each.perms) for each in process.memory_maps(grouped=False))

    monitor = Monitor(
        mode="heap",
        path=f"{tmp_path}/heap.dmp",
        launch=["sh", "-c", script],
        progress=look,
    )
    monitor.on_exception(2)
    (report,) = monitor.run()
    assert monitor.launched
    assert monitor.launched.wait() == 128 + signal.SIGABRT
    assert any("did not open within 1 s and was killed" in each.message for each in report.warnings)
    assert_private_memory(Path(report.path))
    with open(report.path, "rb") as file:
        loads = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"]
        spans = [(load["p_vaddr"], load["p_vaddr"] + load["p_filesz"]) for load in loads]
    private = [addr.split("-") for addr, perms in maps.items() if perms == "rw-p"]
    assert len(private) > 50
    for start, end in private:
        assert any(low <= int(start, 16) and int(end, 16) <= high for low, high in spans)
