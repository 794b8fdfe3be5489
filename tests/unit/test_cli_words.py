"""The command line without a process: help, habits, errors, reports."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

import minidumper
from minidumper.cli import dump, main, render, talk, waiting
from minidumper.demo import DemoReport
from minidumper.errors import AmbiguousTargetError, MiniDumperError
from minidumper.plan import CaptureWarning, DumpMode
from minidumper.ranges import Reason
from minidumper.report import CaptureReport, Way
from minidumper.verification import VerifyReport

REPORT = CaptureReport(
    path="/dumps/MyApp.dmp",
    mode=DumpMode.HEAP,
    pid=42,
    name="MyApp",
    size=54_900_000,
    disk_size=41_200_000,
    pause_s=0.0831,
    write_s=1.204,
    total_s=2.5,
    way=Way.SNAPSHOT,
    copied_on_write=1_200_000,
    totals={Reason.GC_HEAP: 45_000_000, Reason.STACK: 81_920},
    clr={"runtime": "10.0.14"},
    warnings=(CaptureWarning("threads", "thread 7 ended", tid=7),),
)


class Ran:
    """What a command line gave."""

    def __init__(self, words: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.code = main.run(words.split())
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    yield lambda words: Ran(words, capsys)
    talk.begin()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[waiting.Request]:
    """Collects what command lines ask for, instead of doing it."""
    asked: list[waiting.Request] = []

    def take(request: waiting.Request) -> int:
        asked.append(request)
        return 0

    monkeypatch.setattr(dump, "_take", take)
    return asked


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the taking of the dumps raise an error."""

    def fail_with(error: BaseException) -> None:
        def take(request: object) -> None:
            raise error

        monkeypatch.setattr(dump, "_take", take)

    return fail_with


@pytest.mark.parametrize("words", ["--help", "verify --help", "demo --help"])
def test_help_fits_a_terminal(run: Any, words: str) -> None:
    ran = run(words)
    assert ran.code == 0
    assert ran.out.startswith("Usage: minidumper ")
    assert max(map(len, ran.out.splitlines())) <= 80


def test_help_explains_the_modes_and_names_only_what_is_built(run: Any) -> None:
    text = run("--help").out
    options = ("-mm", "-mh", "-ma", "--async", "--overwrite", "--dac", "--compress")
    for word in (*options, "verify FILE", "unpack FILE.zst", "strip FULL", "demo"):
        assert word in text
    for word in (" -e", " -t ", " -x", " -c ", " -w", " -f ", "-fx", "--type", "--maxmem"):
        assert word in text
    assert text.index("-s SECONDS") < text.index("-e [1|2]") < text.index("-x [FOLDER] IMAGE")
    assert text.index("-x [FOLDER] IMAGE") < text.index("-o FILE")


def test_version(run: Any) -> None:
    ran = run("--version")
    assert (ran.code, ran.out) == (0, f"minidumper {minidumper.__version__}\n")


def test_no_words_are_a_usage_error_with_the_help(run: Any) -> None:
    ran = run("")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: minidumper ")


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("42", "no mode was given", "-mm (minimal), -mh (heap) or -ma (full)"),
        ("-mh", "no process was given", "pid or its name"),
        ("-mh -o 42", "-o took 42 for the name of the file", "--overwrite 42"),
        ("-mh -o 42 x.dmp", "-o took 42 for the name of the file", "--overwrite 42 x.dmp"),
        ("-mh --compress 3", "no process was given, and --compress took 3", "--compress -- 3"),
        ("-mh --compress=20 42", "invalid value for '--compress': 20 is not", "--help"),
        ("-mh -o a.dmp 42 b.dmp", "two places for the dump: -o a.dmp and b.dmp", "leave one"),
        ("-mh 42 a.dmp b c", "surplus words: b c", "a process and a file"),
        ("-m 800 42", "there is no mode 800: -m takes m, h or a", "choose -mm"),
        ("-ml 100 42", "there is no mode l: -m takes m, h or a", "choose -mm"),
        ("-mh -c 80 42", "-c is no CPU limit, as procdump's -c 80 is", "leave it out"),
        ("-mh -cl 80 42", "-c is no CPU limit, as procdump's -cl 80 is", "leave it out"),
        ("-mh -t -c MyApp", "-c is for a program that is launched", "-c -x IMAGE"),
        ("-mh -e 2", "-e took 2 for the kind of exceptions", "-e 2 PID, or for process 2: -e -- 2"),
        ("-mh -e 3 42", "-e takes 1 (when they are thrown) or 2", "for process 3: -e -- 3"),
        ("-mh -e 1", "-e took 1 for the kind of exceptions", "-e 1 PID, or for process 1: -e -- 1"),
        ("-mh -f x 42", "-f, -fx and --type choose among exceptions", "with -e"),
        ("-mh -t -fx x 42", "-f, -fx and --type choose among exceptions", "with -e"),
        ("-mh -x MyApp", "-x without anything to wait for", "-e, -t, --maxmem or --minmem"),
        ("-mh -t -x", "-x needs a program", "-x IMAGE"),
        ("-mh -t -x .", "-x . names a folder and no program", "-x FOLDER IMAGE"),
        ("-mh -t -o a -x . MyApp", "two places for the dump: -o a and .", "leave one"),
        ("-mh -t -o - -x MyApp", "-o - and -x: standard output is that of the program", "-o FILE"),
        ("-mh -t 42 -x MyApp", "surplus words: 42", "there is no other process"),
        ("-mh -w 42", "-w waits for a process by its name", "-w NAME"),
        ("-mh --mode", "option '--mode' requires an argument", "minidumper --help"),
        ("-mh -n 0 42", "invalid value for '-n'", "minidumper --help"),
        ("-mh -n three 42", "invalid value for '-n'", "minidumper --help"),
        ("-mh -s -1 42", "invalid value for '-s'", "minidumper --help"),
        ("-mh --dac /nowhere 42", "invalid value for '--dac'", "minidumper --help"),
        ("-mh -q -v 42", "-q and -v contradict each other", ""),
        ("verify", "missing argument 'FILE'", "minidumper verify --help"),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(run: Any, words: str, said: str, hint: str) -> None:
    ran = run(words)
    error, *hints = ran.err.splitlines()
    assert (ran.code, ran.out) == (2, "")
    assert error.startswith(f"minidumper: error: {said}")
    assert [line.startswith("hint: ") and hint in line for line in hints] == [True] * bool(hint)


@pytest.mark.parametrize(
    ("words", "modes", "process", "place"),
    [
        ("-mh 42", [DumpMode.HEAP], 42, None),
        ("-mm -mh -ma 42", list(DumpMode), 42, None),
        ("-mh -mh 42", [DumpMode.HEAP], 42, None),
        ("-m a MyApp.dll", [DumpMode.FULL], "MyApp.dll", None),
        ("--mode minimal 42 folder", [DumpMode.MINIMAL], 42, "folder"),
        ("--mode=heap verify", [DumpMode.HEAP], "verify", None),
        ("42 -mh -o x.dmp", [DumpMode.HEAP], 42, "x.dmp"),
        ("-mh -o 42 MyApp", [DumpMode.HEAP], "MyApp", "42"),
        ("-mh -- -odd-", [DumpMode.HEAP], "-odd-", None),
    ],
)
def test_what_a_command_line_asks_for(
    run: Any,
    requests: list[waiting.Request],
    words: str,
    modes: list[DumpMode],
    process: int | str,
    place: str | None,
) -> None:
    assert run(words).code == 0
    (request,) = requests
    assert (list(request.modes), request.process, request.place) == (modes, process, place)
    assert (request.count, request.interval_s) == (1, None)
    assert not request.triggers


@pytest.mark.parametrize(
    ("words", "chance", "process", "launch"),
    [
        ("-mh -e 42", 2, 42, ()),
        ("-mh -e 2 42", 2, 42, ()),
        ("-mh -e 1 -f a -fx b -f c 42", 1, 42, ()),
        ("-mh -e 1 --type A.B 42", 1, 42, ()),
        ("-mh 42 -e 2", 2, 42, ()),
        ("-mh -e -- 2", 2, 2, ()),
        ("-mh -e 1.2", 2, "1.2", ()),
        ("-mh -e -x MyApp -e 1", 2, "", ("MyApp", "-e", "1")),
        ("-mh -e -x . MyApp.dll -x", 2, "", ("dotnet", "MyApp.dll", "-x")),
        ("-mh -t -- -x", 0, "-x", ()),
    ],
)
def test_what_is_waited_for(
    run: Any,
    requests: list[waiting.Request],
    words: str,
    chance: int,
    process: int | str,
    launch: tuple[str, ...],
) -> None:
    assert run(words).code == 0
    (request,) = requests
    assert request.triggers
    asked = (request.triggers.chance, request.process, tuple(request.launch))
    assert asked == (chance, process, launch)


README = Path(minidumper.__file__).parents[1] / "README.md"
EXAMPLES = [
    *(words for words, _ in dump._EXAMPLES),
    *re.findall(r"^    (minidumper -.*?)(?: +#.*)?$", README.read_text("utf-8"), re.MULTILINE),
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_good_command_lines(
    run: Any, requests: list[waiting.Request], line: str
) -> None:
    assert run(line.removeprefix("minidumper ")).err == ""
    assert len(requests) == 1


def test_an_ambiguous_name_lists_its_candidates(run: Any, failing: Any) -> None:
    candidates = [(7, "dotnet A.dll"), (1234567, "dotnet " + "x" * 500)]
    failing(AmbiguousTargetError("2 processes are named A", candidates=candidates, hint="a pid"))
    ran = run("-mh A")
    error, first, second, hint = ran.err.splitlines()
    assert ran.code == 2
    assert error == "minidumper: error: 2 processes are named A"
    assert first == "         7  dotnet A.dll"
    assert second.startswith("   1234567  dotnet xxx")
    assert len(second) <= 80
    assert hint == "hint: a pid"


@pytest.mark.parametrize(
    "error_class",
    [getattr(minidumper, name) for name in minidumper.__all__ if name.endswith("Error")],
)
def test_every_error_has_an_exit_code(error_class: type[MiniDumperError]) -> None:
    assert error_class.exit_code in {1, 2, 3, 4, 5}


def test_errors_of_our_tree_tell_their_hint_and_code(run: Any, failing: Any) -> None:
    failing(minidumper.TargetNotFoundError("there is no process 42", pid=42, hint="see: ps -e"))
    ran = run("-mh 42")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "minidumper: error: there is no process 42\nhint: see: ps -e\n"


def test_other_errors_are_one_line_too(run: Any, failing: Any) -> None:
    failing(ZeroDivisionError("division by zero"))
    ran = run("-mh 42")
    assert ran.code == 1
    assert ran.err.startswith(
        "minidumper: error: internal error: ZeroDivisionError: division by zero\nhint: "
    )
    assert "Traceback" not in ran.err
    assert "-v" in ran.err


def test_a_hint_of_many_lines_is_cut_but_for_v(run: Any, failing: Any) -> None:
    failing(minidumper.BridgeError("the CLR side ended", hint="Fatal error.\n   at A\n   at B\n"))
    assert run("-mh 42").err == "minidumper: error: the CLR side ended\nhint: Fatal error.\n"
    assert "   at B\n" in run("-mh -v 42").err


def test_v_shows_where_an_error_is_from(run: Any, failing: Any) -> None:
    failing(ZeroDivisionError("division by zero"))
    assert "Traceback" in run("-mh -v 42").err


def test_an_interrupt_exits_with_130(run: Any, failing: Any) -> None:
    failing(KeyboardInterrupt())
    ran = run("-mh 42")
    assert (ran.code, ran.out, ran.err) == (130, "", "minidumper: interrupted\n")


def test_signals_count_as_ctrl_c_but_those_that_are_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name in ("SIGTERM", "SIGINT", "SIGOFNOSYSTEM"):
            main._interrupt_on(name)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_report_as_text() -> None:
    assert render.dump_text(REPORT).splitlines() == [
        "/dumps/MyApp.dmp",
        "  heap dump of process 42 (MyApp), .NET 10.0.14",
        "  54.9 MB, 41.2 MB on disk",
        "  the process stood still for 83 ms, writing took 1.20 s after, from a snapshot",
        "  meanwhile it had to copy 1.2 MB as it wrote",
        "    GC heap  45.0 MB",
        "    stacks   81.9 kB",
        "  warning: threads: thread 7 ended",
    ]


def test_report_of_standard_output() -> None:
    path, _, size, *_ = render.dump_text(replace(REPORT, path="-")).splitlines()
    assert (path, size) == ("standard output", "  54.9 MB, 41.2 MB sent")


def test_report_as_json() -> None:
    value = json.loads(render.as_json(REPORT.as_dict()))
    assert value["path"] == "/dumps/MyApp.dmp"
    assert value["mode"] == "heap"
    assert value["pause_s"] == 0.0831
    assert (value["way"], value["copied_on_write"]) == ("snapshot", 1_200_000)
    assert value["totals"] == {"GC_HEAP": 45_000_000, "STACK": 81_920}
    assert value["warnings"] == [{"stage": "threads", "message": "thread 7 ended", "tid": 7}]


def test_verify_as_text() -> None:
    counts = {"objects": 440_391, "types": 226, "threads": 5, "frames": 26, "modules": 15}
    report = VerifyReport("x.dmp", "10.0.14", counts, ())
    assert render.verify_text(report).splitlines() == [
        "x.dmp",
        "  .NET 10.0.14",
        "  440,391 objects of 226 types, 5 threads with 26 frames, 15 modules",
        "  all of it can be read",
    ]
    one = VerifyReport("x.dmp", "10.0.14", counts | {"threads": 1, "frames": 1}, ())
    assert ", 1 thread with 1 frame, " in render.verify_text(one)
    without = VerifyReport("x.dmp", "", {}, ("no .NET runtime is in the dump",))
    assert render.verify_text(without).splitlines() == [
        "x.dmp",
        "  .NET not found",
        "  problem: no .NET runtime is in the dump",
    ]
    many = VerifyReport("x.dmp", "10.0.14", counts, tuple(f"number {i}" for i in range(100)))
    assert render.verify_text(many).splitlines()[-2:] == [
        "  problem: number 19",
        "  and 80 problems more; --json lists them",
    ]


def test_demo_as_text() -> None:
    dumps = (REPORT, dataclasses.replace(REPORT, mode=DumpMode.FULL, totals={Reason.STACK: 1000}))
    report = DemoReport(dumps, VerifyReport("x.dmp", "10.0.14", {"objects": 7}, ()), 130_000_000)
    text = render.demo_text(report, kept=True)
    assert text.splitlines()[3:9] == [
        "                    heap     full",
        "file             54.9 MB  54.9 MB",
        "on disk          41.2 MB  41.2 MB",
        "pages by reason",
        "  GC heap        45.0 MB        -",
        "  stacks         81.9 kB   1.0 kB",
    ]
    assert "createdump takes 130.0 MB" in text
    assert text.endswith("/dumps/MyApp.dmp\n/dumps/MyApp.dmp")
    assert max(map(len, text.splitlines())) <= 80
    alone = dataclasses.replace(report, createdump_size=None)
    assert "createdump" not in render.demo_text(alone, kept=False)


def test_every_reason_has_a_name_for_people() -> None:
    assert set(render.REASONS) == set(Reason)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 kB"), (81_920, "81.9 kB"), (100_000, "0.1 MB"), (8_123_400_000, "8,123.4 MB")],
)
def test_sizes(size: int, text: str) -> None:
    assert render.size_text(size) == text


def test_quiet_and_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        for quiet in (False, True):
            talk.begin(quiet=quiet)
            talk.say("hello")
            talk.complain(click.ClickException("no"), "no")
    finally:
        talk.begin()
    line = "minidumper: error: no\n"
    assert capsys.readouterr() == ("", f"minidumper: hello\n{line}{line}")


def test_what_a_process_says_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        talk.begin()
        talk.say("a\nb\0\x1b[2J\u2028 ä 日")
    finally:
        talk.begin()
    assert capsys.readouterr().err == "minidumper: a\\nb\\x00\\x1b[2J\\u2028 ä 日\n"


def test_a_reader_that_went_away_is_no_error() -> None:
    program = "from minidumper.cli import talk\ntalk.result('x' * 100000)\ntalk.result('y')"
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=gone,
            stderr=subprocess.PIPE,
            cwd=Path(minidumper.__file__).parents[1],
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_importing_the_package_loads_nothing() -> None:
    program = (
        "import sys, minidumper\n"
        "assert minidumper.DumpMode.HEAP.value == 'heap'\n"
        "assert not {'click', 'psutil', 'rich', 'pythonnet', 'clr'} & sys.modules.keys()\n"
        "assert not [n for n in sys.modules if n.startswith('minidumper.clr')]\n"
        "assert set(minidumper.__all__) <= set(dir(minidumper))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=Path(minidumper.__file__).parents[1], check=True
    )


def test_public_names_are_sorted_and_there() -> None:
    assert minidumper.__all__ == sorted(minidumper.__all__)
    for name in minidumper.__all__:
        assert getattr(minidumper, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = minidumper.nothing
