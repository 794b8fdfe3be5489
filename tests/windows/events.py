"""What else is waited for and told of, launches, and the ways in which a wait ends."""

from __future__ import annotations

import _thread
import logging
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper import Monitor, platforms
from minidumper.cli import main
from minidumper.dumpinfo import dump_info
from minidumper.errors import CaptureError, TargetNotFoundError
from minidumper.platforms.windows.debugging import is_debugged
from minidumper.platforms.windows.process import WindowsProcess
from minidumper.platforms.windows.watcher import DebugWatcher
from minidumper.watching import Watched
from tests.support.commands import PROGRAM
from tests.support.targets import Running
from tests.support.waiting import DEADLINE_S, tell, watched

from .programs import DOTNET, TARGETS, python, running, sections


@pytest.fixture(scope="module")
def app() -> Iterator[Running]:
    with running("Faults") as program:
        yield program
        assert program.alive()


@pytest.mark.parametrize("text", ["*a l?g*", "A TRACE"])
def test_debug_output_that_matches(app: Running, tmp_path: Path, text: str) -> None:
    monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\")
    monitor.on_output(text)
    with watched(monitor) as taken:
        for way in ("log", "trace", "system"):
            assert app.ask(f"say {way}") == "said"
        taken.thread.join(DEADLINE_S)
    (report,) = taken.reports
    assert report.moment
    assert report.moment.trigger == "output"
    assert text.strip("*").replace("?", "o").lower() in report.moment.line
    assert dump_info(Path(report.path)).stopped_by == f'output "{report.moment.line}"'


def test_all_that_happens_is_shown(
    app: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\", show=True)
    monitor.on_output("a word")
    with watched(monitor) as taken:
        app.ask("caught rare")
        app.ask("caught inner")
        app.ask("caught null")
        for way in ("log", "library", "system"):
            app.ask(f"say {way}")
        taken.thread.join(DEADLINE_S)
    said = "\n".join(record.getMessage() for record in caplog.records)
    events = (
        r'exception in thread \d+: E0434352.Faults.RareException \("a rare one"\)',
        r"exception in thread \d+: E0434352.Faults.RareException "
        r'\("outer"\), because of System.FormatException \("inside"\)',
        r"exception in thread \d+: C0000005.ACCESS_VIOLATION",
        r"exception in thread \d+: E0434352.System.NullReferenceException .*",
        r"output of thread \d+: a log",
        r"loaded .*\\msacm32.dll at 0x[0-9a-f]+",
        r"unloaded .*\\msacm32.dll",
        r"output of thread \d+: a word",
    )
    found = [re.search(f"^{event}$", said, re.MULTILINE) for event in events]
    assert all(found), said
    assert sorted(match.start() for match in found if match) == [m.start() for m in found if m]
    assert "ntdll.dll" not in said  # it was there before


def test_a_memory_limit_of_a_process_that_is_watched(app: Running, tmp_path: Path) -> None:
    """No event holds it: it is made to stop."""
    monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\", count=2, interval_s=0)
    monitor.on_exception(2)
    monitor.on_memory(above_mb=1)
    with watched(monitor) as taken:
        taken.thread.join(DEADLINE_S)
    assert [report.moment and report.moment.trigger for report in taken.reports] == ["memory"] * 2
    assert [report.warnings for report in taken.reports] == [(), ()]


@pytest.mark.parametrize(("kind", "code"), [("exit", 7), ("failfast", 0x8013_1623)])
def test_the_end(tmp_path: Path, kind: str, code: int) -> None:
    with running("Faults") as app:
        monitor = Monitor(app.pid, "minimal", f"{tmp_path}\\")
        monitor.on_exit()
        with watched(monitor) as taken:
            tell(app, f"end {kind}")
            taken.thread.join(DEADLINE_S)
        assert app.process.wait(DEADLINE_S) == code
    (report,) = taken.reports
    assert report.moment
    assert report.moment.trigger == "exit"
    stacks = sections(report.path, "stacks")["stacks"]
    assert any("Faults.Program.End" in line for line in stacks)


def test_ctrl_c_lets_it_go(app: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Interrupt(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("waiting in process"):
                threading.Timer(0.3, _thread.interrupt_main).start()

    handler = Interrupt()
    logging.getLogger("minidumper").addHandler(handler)
    try:
        assert main.run(["-mm", "-e", "-t", str(app.pid), str(tmp_path)]) == 130
    finally:
        logging.getLogger("minidumper").removeHandler(handler)
    assert "Faults runs on" in caplog.messages
    with WindowsProcess(app.pid) as process:
        assert not is_debugged(process.handle)
    assert app.alive()


def launched(
    *words: str, typed: str, program: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run minidumper -x to its end, with dotnet in the PATH."""
    dll = Path(os.environ[TARGETS], program, "release", f"{program}.dll")
    path = f"{Path(os.environ[DOTNET]).parent};{os.environ['PATH']}"
    return subprocess.run(
        [*PROGRAM, "-mm", *words, "-x", str(folder), str(dll)],
        env=os.environ | {"PATH": path},
        input=typed,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_launched_under_watch(tmp_path: Path) -> None:
    words = ("-l", "-e", "1", "--type", "Faults.RareException")
    typed = "caught derived\nend exit\n"
    done = launched(*words, typed=typed, program="Faults", folder=tmp_path)
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("ready ")
    assert "VeryRareException\n" in done.stdout
    assert re.search(r"minidumper: \d\d:\d\d:\d\d\.\d{6} loaded .*\\coreclr.dll", done.stderr)
    assert "E0434352.Faults.VeryRareException" in done.stderr
    assert len(list(tmp_path.iterdir())) == 1


SHARING = """
import ctypes, sys
pids = (ctypes.c_uint32 * 64)()
count = ctypes.windll.kernel32.GetConsoleProcessList(pids, 64)
open(sys.argv[1], "w").write(f"{count} {sys.stdout.isatty()}")
"""


@pytest.mark.parametrize("new_console", [False, True])
def test_the_console_of_a_launched_program(tmp_path: Path, new_console: bool) -> None:
    path = tmp_path / "told"
    command = [sys.executable, "-c", SHARING, str(path)]
    program = platforms.launch(command, new_console=new_console)
    program.go()
    assert program.wait() == 0
    assert path.read_text() == ("1 True" if new_console else "0 False")


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(TargetNotFoundError):
        platforms.launch(["no such program"], new_console=False)
    (tmp_path / "empty.exe").write_bytes(b"")
    with pytest.raises(CaptureError, match="does not start"):
        platforms.launch([str(tmp_path / "empty.exe")], new_console=False)


def test_let_go_while_it_throws() -> None:
    """And writes debug output, stops for us, and has methods compiled: clrjit.dll throws, too."""
    what = Watched(exits=False, crashes=False, threads=False, interrupts=False, output=True)
    with running("Faults") as app:
        assert app.ask("many 3") == "throwing"
        for _ in range(30):
            with WindowsProcess(app.pid) as process:
                watcher = DebugWatcher(process, what)
                watcher.stop()
                watcher.release()
                for word in ("say trace", "caught null", "say system"):
                    tell(app, word)
                watcher.close()
            assert [app.answer() for _ in range(3)][::2] == ["said", "said"]
        assert app.alive()


WAITING = """
import logging, sys
from minidumper import Monitor

pid, folder, moment = sys.argv[1:]

def at(name):
    if moment == name:
        print(name, flush=True)
        sys.stdin.read()

class Ready(logging.Handler):
    def emit(self, record):
        if moment == "waiting" and record.getMessage().startswith("waiting in process"):
            print("waiting", flush=True)

def decide(exception):
    at("held")
    return moment == "writing"

logger = logging.getLogger("minidumper")
logger.addHandler(Ready())
logger.setLevel(logging.INFO)
monitor = Monitor(int(pid), "minimal", folder, progress=lambda done, total: at("writing"))
monitor.on_exception(1, decide=decide)
list(monitor.run())
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """While three threads throw: it looks at each exception, holds one, writes a dump of one."""
    choice = random.Random(7)
    with running("Faults") as app:
        assert app.ask("many 3") == "throwing"
        for moment in ("waiting", "held", "writing"):
            with python(WAITING, str(app.pid), f"{tmp_path}\\", moment) as own:
                assert own.stdout
                assert own.stdout.readline() == f"{moment}\n"
                time.sleep(choice.random() / 4)
                own.kill()
                own.wait()
            with WindowsProcess(app.pid) as process:
                assert not is_debugged(process.handle)
            thrown = int(app.ask("thrown"))
            while int(app.ask("thrown")) < thrown + 20:
                pass
    assert list(tmp_path.iterdir()) == []
