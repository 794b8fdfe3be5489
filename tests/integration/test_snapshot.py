"""A snapshot is the process as it was in the stop; what must not be forked is refused."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper.errors import CaptureError
from minidumper.formats.context import user_regs
from minidumper.ranges import MemoryRange, page_floor
from minidumper.target import MemorySource
from tests.support import gates
from tests.support.gates import control_group
from tests.support.processes import state
from tests.support.targets import running

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.platforms.linux import snapshot
from minidumper.platforms.linux.forkchoice import candidates
from minidumper.platforms.linux.libc import NT_FPREGSET, NT_PRSTATUS
from minidumper.platforms.linux.process import LinuxProcess
from minidumper.platforms.linux.procfs import parse_status
from minidumper.platforms.linux.ptrace import Tracer
from minidumper.platforms.linux.sigchain import fork_chain
from minidumper.platforms.linux.sigframe import fpu_area
from tests.support.snapshot_killer import attempt, check, die, origin_of
from tests.support.snapshots import FILTERED, Program, python, snapshot_of, subject

pytestmark = pytest.mark.gate("ptrace")

PAGE = 4096
POLL = 7  # asm/unistd_64.h

# Memory of each kind, all of it "before" until it is told to write "after!".
_MEMORY = """
    import ctypes, mmap, os, sys, tempfile, threading
    def address(memory):
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    kinds = {
        "private": mmap.mmap(-1, 8192, private),
        "dontfork": mmap.mmap(-1, 8192, private),
        "wipeonfork": mmap.mmap(-1, 8192, private),
        "shared": mmap.mmap(-1, 8192),
    }
    descriptor = os.memfd_create("subject")
    os.ftruncate(descriptor, 8192)
    kinds["memfd"] = mmap.mmap(descriptor, 8192)
    with tempfile.TemporaryFile() as file:
        file.truncate(8192)
        kinds["file"] = mmap.mmap(file.fileno(), 8192)
        kinds["copied"] = mmap.mmap(file.fileno(), 8192, mmap.MAP_PRIVATE)
    kinds["dontfork"].madvise(mmap.MADV_DONTFORK)
    kinds["wipeonfork"].madvise(18)  # MADV_WIPEONFORK, madvise(2)
    for memory in kinds.values():
        memory[:6] = b"before"
    threading.Thread(target=threading.Event().wait, name="waits", daemon=True).start()
    print("ready", *(f"{name}={address(memory)}" for name, memory in kinds.items()), flush=True)
    for line in sys.stdin:
        for memory in kinds.values():
            memory[:6] = b"after!"
        print("written", flush=True)
"""
KINDS = ("private", "dontfork", "wipeonfork", "shared", "memfd", "file", "copied")


@pytest.fixture
def program() -> Iterator[Program]:
    with python(_MEMORY) as program:
        yield program


@pytest.fixture
def addresses(program: Program) -> dict[str, int]:
    words = (word.partition("=") for word in program.words)
    return {name: int(address) for name, _, address in words}


def read_like_a_worker(source: MemorySource, address: int, size: int) -> bytes:
    """A read inside one range, from nothing but the descriptors."""
    assert source.copies
    for start, end, offset in source.copies.table:
        if start <= address < end:
            return os.pread(source.copies.descriptor, size, offset + address - start)
    return os.pread(source.descriptor, size, address)


def test_memory_stays_as_it_was(program: Program, addresses: dict[str, int]) -> None:
    with LinuxProcess(program.pid) as process:
        assert {process.memory.read(a, 6) for a in addresses.values()} == {b"before"}
        with snapshot_of(program.pid) as taken:
            assert program.ask("write") == "written"
            assert {process.memory.read(a, 6) for a in addresses.values()} == {b"after!"}
            seen = {name: taken.memory.read(a, 6) for name, a in addresses.items()}
            assert seen == dict.fromkeys(KINDS, b"before")
            source = taken.memory_source()
            assert {read_like_a_worker(source, a, 6) for a in addresses.values()} == {b"before"}
            assert not taken.warnings


def test_all_but_the_memory_is_that_of_the_stop(program: Program) -> None:
    with LinuxProcess(program.pid) as process:
        gadgets = snapshot.prepare_snapshot(process)
        with process.stopped():
            regions, threads, modules = process.regions(), process.threads(), process.modules()
            taken = snapshot.take_snapshot(process, gadgets)
        with taken:
            assert program.ask("write") == "written"
            assert (taken.regions(), taken.threads()) == (regions, threads)
            assert taken.modules() == modules
            assert (taken.pid, taken.name) == (process.pid, process.name)
            assert (taken.user, taken.arguments()) == (process.user, process.arguments())
            assert taken.auxv() == process.auxv()
            assert os.path.samefile(taken.root, process.root)


def test_a_thread_gets_back_all_its_registers(program: Program) -> None:
    """But for those that start its system call again, as the kernel itself would set them."""
    restarted = {"rip", "rax", "orig_rax"}
    with LinuxProcess(program.pid) as process:
        gadgets = snapshot.prepare_snapshot(process)
        with process.stopped():
            before = process.threads()
            with snapshot.take_snapshot(process, gadgets):
                after = process.threads()
    for old, new in zip(before, after, strict=True):
        assert (old.tid, old.name, old.sp) == (new.tid, new.name, new.sp)
        assert old.regsets[NT_FPREGSET] == new.regsets[NT_FPREGSET]
        registers = user_regs(old.regsets[NT_PRSTATUS]), user_regs(new.regsets[NT_PRSTATUS])
        assert {name for name in registers[0] if registers[0][name] != registers[1][name]} <= (
            restarted
        )


def test_pages_that_a_fork_lacks_are_resident_and_modified(
    program: Program, addresses: dict[str, int]
) -> None:
    with snapshot_of(program.pid) as taken:
        regions = taken.regions()
        for address in addresses.values():
            span = MemoryRange(address, address + PAGE)
            assert taken.resident(regions, span) == [span]
        copied = next(r for r in regions if r.start <= addresses["copied"] < r.end)
        first = page_floor(addresses["copied"])
        assert [r.start for r in taken.modified_pages(copied)] == [first]


def test_the_cost_is_what_the_target_writes(program: Program) -> None:
    with snapshot_of(program.pid) as taken:
        before = taken.copied_on_write()
        assert program.ask("write") == "written"
        assert taken.copied_on_write() >= before + 2 * PAGE  # private memory, a private file
        assert taken.copied_on_write() < before + (64 << 20)


def test_memory_above_the_limit_is_not_copied_but_told(
    program: Program, addresses: dict[str, int]
) -> None:
    with snapshot_of(program.pid, copy_limit=0) as taken:
        assert not taken.memory_source().copies.table  # type: ignore[union-attr]
        assert addresses["shared"] in {warning.address for warning in taken.warnings}
        assert taken.memory.read(addresses["private"], 6) == b"before"


def test_nothing_stays_open(program: Program) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with snapshot_of(program.pid) as taken:
            assert os.listdir(f"/proc/{taken.child}/fd") == []
    assert len(os.listdir("/proc/self/fd")) == before
    check(program.pid, origin_of(program.pid))


def test_a_peer_sees_at_once_what_the_target_closes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"""
            import socket, sys
            sock = socket.create_connection(("127.0.0.1", {port}))
            print("ready", flush=True)
            sys.stdin.readline()
            sock.close()
            print("closed", flush=True)
            sys.stdin.readline()
        """
        with python(source) as program, server.accept()[0] as peer, snapshot_of(program.pid):
            assert program.ask("close") == "closed"
            peer.settimeout(10)
            assert peer.recv(1) == b""


def test_a_snapshot_is_let_go_in_time(program: Program, addresses: dict[str, int]) -> None:
    with snapshot_of(program.pid, hold_s=0.01) as taken:
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
        assert not os.path.exists(f"/proc/{taken.child}")
        with pytest.raises(CaptureError, match="held too long"):
            taken.memory.read(addresses["private"], 6)
    check(program.pid, origin_of(program.pid))


def test_a_snapshot_that_is_killed_says_so(program: Program, addresses: dict[str, int]) -> None:
    with snapshot_of(program.pid) as taken:
        os.kill(taken.child, signal.SIGKILL)
        os.waitid(os.P_PID, taken.child, os.WEXITED | os.WNOWAIT)
        with pytest.raises(CaptureError, match="killed"):
            taken.memory.read(addresses["private"], 6)
    check(program.pid, origin_of(program.pid))


def test_another_program_is_not_taken_for_the_one_that_was_prepared() -> None:
    source = """
        import os, sys
        print("ready", flush=True)
        sys.stdin.readline()
        os.execv(sys.executable, [sys.executable, "-c", "print('new', flush=True); input()"])
    """
    with python(source) as program, LinuxProcess(program.pid) as process:
        gadgets = snapshot.prepare_snapshot(process)
        assert program.ask("go") == "new"
        with process.stopped(), pytest.raises(CaptureError, match="another program"):
            snapshot.take_snapshot(process, gadgets)


@pytest.mark.gate("gcc")
def test_a_thread_in_a_timed_call_is_chosen_last() -> None:
    with subject("timed", "timed", "input") as program, LinuxProcess(program.pid) as process:
        gadgets = snapshot.prepare_snapshot(process)
        waits = sorted(int(name) for name in os.listdir(f"/proc/{program.pid}/task"))[2]
        for _ in range(20):
            with process.stopped():
                assert isinstance(process.tracer, Tracer)
                found = candidates(
                    process.tracer,
                    process.regions(),
                    process.mem,
                    fpu_area(),
                    lambda thread: fork_chain(gadgets, thread, fpu_area()),
                    [],
                )
                assert next(found).tid == waits
        program.finish()


def test_a_timed_call_that_was_interrupted_before_is_not_touched() -> None:
    """After a stop it goes on as restart_syscall(2), and the snapshot would end it with EINTR."""
    source = """
        import select, sys
        poll = select.poll()
        poll.register(0, select.POLLIN)
        print("ready", flush=True)
        print(poll.poll(600_000), flush=True)
    """
    with python(source) as program:
        with LinuxProcess(program.pid) as process:
            while system_call(process.pid) != POLL:
                continue
            with process.stopped():
                pass
        refused_now = pytest.raises(CaptureError, match="interrupted before")
        with refused_now, snapshot_of(program.pid):
            pass
        assert program.ask("go on") == "[(0, 1)]"


@pytest.mark.gate("gcc")
def test_a_thread_on_another_stack_is_not_sent() -> None:
    with subject("handle") as program:
        with pytest.raises(CaptureError, match="no room on its stack"), snapshot_of(program.pid):
            pass
        check(program.pid, origin_of(program.pid))
        program.finish()


@pytest.mark.gate("gcc", "root", "unshare")
def test_the_first_process_of_a_namespace_keeps_no_zombie() -> None:
    with subject("input", "spin", prefix=["unshare", "-pf"]) as program:
        for _ in range(3):
            with snapshot_of(program.pid) as taken:
                assert parent_of(taken.child) == program.pid
            assert not taken.warnings
        check(program.pid, origin_of(program.pid))
        program.finish()


@pytest.mark.gate("gcc", "root", "unshare")
def test_our_death_leaves_the_first_process_of_a_namespace_a_zombie_at_most() -> None:
    with subject("input", "spin", prefix=["unshare", "-pf"]) as program:
        with LinuxProcess(program.pid) as process:
            gadgets = snapshot.prepare_snapshot(process)
            outcomes = (attempt(process, gadgets, last, die) for last in itertools.count())
            kills = len(list(itertools.takewhile((-signal.SIGKILL).__eq__, outcomes)))
        assert kills >= 20
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        assert 0 < len(children) <= kills
        assert {state(int(child)) for child in children} == {"Z"}
        program.finish()


def system_call(pid: int) -> int:
    """What the main thread waits in, -1 for nothing (proc_pid_syscall(5))."""
    word = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return -1 if word == "running" else int(word)


def parent_of(pid: int) -> int:
    return parse_status(Path(f"/proc/{pid}/status").read_text()).ppid


def refused(pid: int, reason: str) -> None:
    with LinuxProcess(pid) as process, pytest.raises(CaptureError, match=reason):
        snapshot.prepare_snapshot(process)
    check(pid, origin_of(pid))


@pytest.mark.gate("gcc")
def test_a_seccomp_filter_is_refused() -> None:
    with subject("input", prefix=FILTERED) as program:
        refused(program.pid, "seccomp")
        program.finish()


@contextlib.contextmanager
def limited(controller: str, pid: int, limit: int) -> Iterator[None]:
    """A process in a control group of its own, with a limit."""
    with control_group(controller, "minidumper-test") as group:
        (group / "cgroup.procs").write_text(str(pid))
        names = {"pids": ["pids.max"], "memory": ["memory.max", "memory.limit_in_bytes"]}
        next(group / n for n in names[controller] if (group / n).exists()).write_text(str(limit))
        yield


@pytest.mark.gate("gcc", "root", "cgroup")
def test_a_memory_limit_that_is_near_is_refused() -> None:
    with subject("input") as program, limited("memory", program.pid, 48 << 20):
        refused(program.pid, "minidumper-test has .* MB left")
        program.finish()


@pytest.mark.gate("gcc", "root", "cgroup-pids")
@pytest.mark.parametrize("spare", [0, 1])  # no child, or a first one that gets no second
def test_a_fork_that_is_denied_is_told_and_harms_nothing(
    spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subject("input", "spin") as program, limited("pids", program.pid, 2 + spare):
        refused(program.pid, "pids.max")
        monkeypatch.setattr(snapshot, "check_headroom", lambda pid: None)
        with pytest.raises(CaptureError, match="denied"), snapshot_of(program.pid):
            pass
        check(program.pid, origin_of(program.pid))
        program.finish()


@pytest.mark.gate("gcc", "root")
def test_a_limit_of_processes_that_is_near_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with subject("input", prefix=["prlimit", "--nproc=1"], user="nobody") as program:
        refused(program.pid, "RLIMIT_NPROC")
        monkeypatch.setattr(snapshot, "check_headroom", lambda pid: None)
        with pytest.raises(CaptureError, match="denied"), snapshot_of(program.pid):
            pass
        check(program.pid, origin_of(program.pid))
        program.finish()


@pytest.mark.gate("toolchain", "old-runtimes")
@pytest.mark.parametrize("runtime", ["3.1.23", "8.0.4", "9.0.22", "10.0.14"])
def test_a_runtime_goes_on(runtime: str) -> None:
    with running("Thrower", runtime) as app:
        for _ in range(5):
            with snapshot_of(app.pid) as taken:
                assert app.alive()
            assert {warning.stage for warning in taken.warnings} <= {"threads"}  # those may end
        check(app.pid, origin_of(app.pid))
        assert app.ask("wrong") == "nothing"
