"""The stop: every thread of a real process is held and let go, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper.errors import AlreadyTracedError, TargetExitedError, TargetNotFoundError
from minidumper.platforms.linux.process import LinuxProcess

pytestmark = pytest.mark.gate("ptrace")

# Counts aloud when asked: a count that goes on shows that the process runs. Threads are born and
# die all the time.
_CHURN = """
    import sys, threading
    def breed():
        while True:
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
    for _ in range(4):
        threading.Thread(target=breed, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        print("alive", flush=True)
"""


@contextlib.contextmanager
def _program(source: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def _alive(process: subprocess.Popen[str]) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline() == "alive\n"


def _states(pid: int) -> set[str]:
    states = set()
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            stat = Path(f"/proc/{pid}/task/{tid}/stat").read_text()
            states.add(stat.rpartition(")")[2].split()[0])
    return states


def test_every_thread_is_held_while_threads_are_born_and_die() -> None:
    with _program(_CHURN) as program, LinuxProcess(program.pid) as process:
        for _ in range(50):
            with process.stopped():
                assert _states(program.pid) <= {"t", "Z", "X"}, "a thread runs on"
                threads = process.threads()
                assert threads[0].tid == program.pid
                assert len({thread.tid for thread in threads}) == len(threads)
            assert "t" not in _states(program.pid)
        assert _alive(program)


def test_an_error_inside_lets_the_threads_go() -> None:
    with _program(_CHURN) as program, LinuxProcess(program.pid) as process:
        with pytest.raises(KeyboardInterrupt), process.stopped():
            raise KeyboardInterrupt
        assert _alive(program)


def test_killed_inside_the_stop_the_kernel_lets_go() -> None:
    holder = """
        import sys
        from minidumper.platforms.linux.process import LinuxProcess
        with LinuxProcess(int(sys.argv[1])) as process, process.stopped():
            print("held", flush=True)
            sys.stdin.read()
    """
    with (
        _program(_CHURN) as program,
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(holder), str(program.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as tracer,
    ):
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "held\n"
        tracer.kill()
        tracer.wait()
        assert _alive(program)


def test_a_signal_that_meets_the_stop_is_delivered_once() -> None:
    counter = """
        import signal, sys, threading
        count = 0
        def count_up(*_):
            global count
            count += 1
        signal.signal(signal.SIGUSR1, count_up)
        print("ready", flush=True)
        for line in sys.stdin:
            print(count, flush=True)
    """
    with _program(counter) as program, LinuxProcess(program.pid) as process:
        assert program.stdin is not None
        assert program.stdout is not None
        for sent in range(1, 31):
            with process.stopped():
                os.kill(program.pid, signal.SIGUSR1)
            program.stdin.write("?\n")
            program.stdin.flush()
            assert int(program.stdout.readline()) == sent


def test_a_process_that_ends_is_named() -> None:
    with _program(_CHURN) as program, LinuxProcess(program.pid) as process:
        program.kill()
        program.wait()
        with pytest.raises(TargetExitedError), process.stopped():
            pytest.fail("nothing was there to be held")


def test_a_second_tracer_is_told_who_holds_it() -> None:
    with _program(_CHURN) as program, LinuxProcess(program.pid) as process, process.stopped():
        child = os.fork()
        if child == 0:
            code = 1
            with (
                contextlib.suppress(AlreadyTracedError),
                LinuxProcess(program.pid) as second,
                second.stopped(),
            ):
                code = 2
            os._exit(0 if code == 1 else code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_such_process() -> None:
    with pytest.raises(TargetNotFoundError):
        LinuxProcess(2**22 + 1)  # above the largest pid_max, proc(5)


def test_memory_reads_stop_at_the_first_fault() -> None:
    with _program(_CHURN) as program, LinuxProcess(program.pid) as process:
        regions = process.regions()
        last = next(
            before
            for before, after in itertools.pairwise(regions)
            if before.readable and before.private_anonymous and before.end < after.start
        )
        buffer = memoryview(bytearray(8192))
        assert process.memory.read_into(last.end - 4096, buffer) == 4096
        assert process.memory.read_into(last.end, buffer) == 0
