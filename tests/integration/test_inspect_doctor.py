"""Each gate of `doctor` is really closed once, and everything opens for a process of our own."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from minidumper.cli import main
from minidumper.writer import write_dump
from tests.support import gates, runtimes, seccomp, targets

gates.demand("linux", module=True)

from minidumper.clr import host  # noqa: E402
from minidumper.platforms.linux import limits  # noqa: E402

NOBODY = 65534
AS_NOBODY = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
NOT_DUMPABLE = "import ctypes; assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0"


class Verdict(NamedTuple):
    """What a doctor in a process of its own said."""

    code: int
    gates: dict[str, dict[str, Any]]

    def closed(self) -> list[str]:
        """The gates that keep a dump from being taken."""
        return [
            name
            for name, gate in self.gates.items()
            if gate["state"] == "failed" and gate["blocks"]
        ]


def judged(code: int, said: str) -> Verdict:
    """A verdict that keeps what it promises: where a gate is closed there is a way to open it."""
    found = {gate["gate"]: gate for gate in json.loads(said)}
    closed = [gate for gate in found.values() if gate["state"] == "failed"]
    for gate in closed:
        assert gate["fixes"].keys() == {"shell", "docker", "kubernetes"}, gate
        assert all(gate["fixes"].values()), gate
    assert (code == 0) == (not any(gate["blocks"] for gate in closed))
    return Verdict(code, found)


def doctor(pid: int | str, prepare: str = "") -> Verdict:
    """A doctor whose process does `prepare` first; everything is imported before that."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import os, minidumper.doctor, minidumper.cli.doctor\n"
        "import minidumper.platforms.finding, minidumper.platforms.linux.backend\n"
        "import minidumper.platforms.linux.gates, minidumper.platforms.linux.process\n"
        "import minidumper.platforms.linux.waitgates\n"
        "from minidumper.cli import main\n"
        f"{prepare}\n"
        f"sys.exit(main.run(['doctor', '--json', '{pid}']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    assert not done.stderr
    return judged(done.returncode, done.stdout)


@contextmanager
def program(command: Sequence[str | Path], **options: Any) -> Iterator[int]:
    """A program that says a line when it is ready; its pid."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        try:
            assert process.stdout
            assert process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def idle(setup: str = "", **options: Any) -> Any:
    """A Python that does `setup` and waits."""
    code = f"import os, signal\n{setup}\nprint('ready', flush=True)\nsignal.pause()"
    return program([sys.executable, "-I", "-S", "-c", code], **options)


def as_nobody(setup: str = "") -> Any:
    """The same as another user, who could not start our Python; dumpable again, as after exec."""
    dumpable = "import ctypes; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)"
    return idle(f"import ctypes\n{AS_NOBODY}\n{dumpable}\n{setup}")


@pytest.mark.gate("root")
def test_user() -> None:
    with idle() as pid:
        verdict = doctor(pid, AS_NOBODY)
    assert verdict.code == 4
    assert verdict.closed()[0] == "user"
    assert "access" in verdict.closed()
    assert verdict.gates["user"]["evidence"] == "it runs as user 0, minidumper as user 65534"
    assert set(verdict.gates["user"]["fixes"]) == {"shell", "docker", "kubernetes"}


@pytest.mark.gate("root")
def test_a_process_of_the_same_user_is_open_to_him() -> None:
    with as_nobody() as pid:
        verdict = doctor(pid, AS_NOBODY)
    assert verdict.closed()[0] == "runtime"
    assert verdict.gates["access"]["state"] == "passed"
    assert verdict.gates["dumpable"]["state"] == "passed"


@pytest.mark.gate("root")
def test_yama(tmp_path: Path) -> None:
    scope = tmp_path / "ptrace_scope"
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    substitute = (
        "from pathlib import Path; from minidumper.platforms.linux import access\n"
        f"access.YAMA_SCOPE = Path({str(scope)!r})\n"
    )
    with as_nobody() as pid:
        for value, state in (("0", "passed"), ("1", "failed"), ("2", "failed"), ("3", "failed")):
            scope.write_text(value)
            verdict = doctor(pid, substitute + AS_NOBODY)
            assert verdict.gates["yama"]["state"] == state, value
            assert verdict.code == (1 if value == "0" else 4)
            assert f"ptrace_scope is {value}" in verdict.gates["yama"]["evidence"]
    with idle() as pid:
        scope.write_text("1")
        assert doctor(pid, substitute).gates["yama"]["state"] == "passed"
        scope.write_text("3")
        assert "reboot" in doctor(pid, substitute).gates["yama"]["fixes"]["docker"]


@pytest.mark.gate("root")
def test_capabilities() -> None:
    """The target keeps CAP_NET_RAW (13) over its change of user (capabilities(7), capset(2))."""
    keep = (
        "import struct\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.prctl(8, 1, 0, 0, 0) == 0\n"  # PR_SET_KEEPCAPS
    )
    limit = (
        "header = ctypes.create_string_buffer(struct.pack('<Ii', 0x20080522, 0))\n"
        "data = ctypes.create_string_buffer(struct.pack('<6I', 1 << 13, 1 << 13, 0, 0, 0, 0))\n"
        "assert libc.capset(header, data) == 0\n"
        "assert libc.prctl(4, 1, 0, 0, 0) == 0\n"
    )
    with idle(f"import ctypes\n{keep}{AS_NOBODY}{limit}") as pid:
        verdict = doctor(pid, AS_NOBODY)
    assert verdict.code == 4
    assert "capabilities" in verdict.closed()
    assert "0x2000" in verdict.gates["capabilities"]["evidence"]


@pytest.mark.gate("root")
def test_seccomp() -> None:
    with idle() as pid:
        verdict = doctor(pid, seccomp.refusing(seccomp.PTRACE))
    assert verdict.code == 4
    assert verdict.closed()[0] == "seccomp"
    assert "seccomp=unconfined" in verdict.gates["seccomp"]["fixes"]["docker"]


def test_a_filter_that_lets_ptrace_through_is_no_obstacle() -> None:
    with idle() as pid:
        verdict = doctor(pid, seccomp.refusing(500))
    assert verdict.gates["seccomp"]["state"] == "passed"
    assert "lets ptrace through" in verdict.gates["seccomp"]["evidence"]


@pytest.mark.gate("perf-breakpoints")
def test_breakpoints() -> None:
    with idle() as pid:
        verdict = doctor(pid, seccomp.refusing(seccomp.PERF_EVENT_OPEN))
    gate = verdict.gates["breakpoints"]
    assert gate["state"] == "failed"
    assert "-e 1 as a debugger" in gate["evidence"]
    assert "--cap-add=PERFMON" in gate["fixes"]["docker"]
    assert "perf_event" in gate["fixes"]["shell"]
    assert "breakpoints" not in verdict.closed()


@pytest.mark.gate("root")
def test_kernel_filter() -> None:
    with as_nobody() as pid:
        verdict = doctor(pid, AS_NOBODY)
    gate = verdict.gates["kernel filter"]
    assert gate["state"] == "failed"
    assert "-e 1 --type costs" in gate["evidence"]


@pytest.mark.gate("root")
def test_dumpable() -> None:
    with as_nobody(NOT_DUMPABLE) as pid:
        verdict = doctor(pid, AS_NOBODY)
        assert doctor(pid).gates["dumpable"]["state"] == "passed"
    assert verdict.code == 4
    assert verdict.closed()[0] == "dumpable"


@pytest.mark.gate("ptrace")
def test_traced() -> None:
    with idle() as pid:
        seize = (
            "import ctypes; libc = ctypes.CDLL(None)\n"
            "libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_long]\n"
            f"assert libc.ptrace(0x4206, {pid}, 0, 0) == 0"
        )
        with idle(seize) as tracer:
            verdict = doctor(pid)
            assert verdict.code == 4
            assert verdict.closed()[0] == "not traced"
            assert str(tracer) in verdict.gates["not traced"]["evidence"]


@pytest.mark.gate("root", "unshare")
def test_a_user_namespace_of_ours_does_not_reach_outside() -> None:
    """unshare(2): CLONE_NEWUSER is 0x10000000."""
    leave = "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0"
    with idle() as pid:
        verdict = doctor(pid, leave)
    assert verdict.code == 4
    assert "namespaces" in verdict.closed()
    assert "--userns=host" in verdict.gates["namespaces"]["fixes"]["docker"]


@pytest.mark.gate("root", "unshare")
def test_namespaces_of_the_process_are_reached() -> None:
    enter = "import ctypes; assert ctypes.CDLL(None).unshare(0x20000) == 0"  # CLONE_NEWNS
    with idle(enter) as pid:
        verdict = doctor(pid)
    assert verdict.gates["namespaces"]["state"] == "passed"
    assert "mnt" in verdict.gates["namespaces"]["evidence"]


def test_bitness(tmp_path: Path) -> None:
    """An ELF program of 32 bits (elf.h) that writes a byte and waits: write(2), pause(2)."""
    code = bytes.fromhex(
        "b804000000bb01000000b954800408ba01000000cd80"  # write(1, 0x8048054, 1)
        "b81d000000cd80ebf7"  # pause(), for ever
    )
    base, size = 0x0804_8000, 0x54
    text = b"\n" + code
    head = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, base + size + 1, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    segment = struct.pack("<8I", 1, 0, base, base, size + len(text), size + len(text), 5, 4096)
    path = tmp_path / "small"
    path.write_bytes(head + segment + text)
    path.chmod(0o755)
    with program([path]) as pid:
        verdict = doctor(pid)
    assert verdict.code == 1
    assert "bitness" in verdict.closed()
    assert verdict.gates["bitness"]["evidence"] == "its program is x86"


def test_exists() -> None:
    verdict = doctor(99_999_999)
    assert (verdict.code, verdict.closed()[0]) == (3, "exists")
    assert doctor(0).code == 3
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        verdict = doctor(child.pid)
    finally:
        child.wait()
    assert verdict.code == 3
    assert "zombie" in verdict.gates["exists"]["evidence"]


def test_runtime() -> None:
    with idle() as pid:
        verdict = doctor(pid)
    assert verdict.code == 1
    assert "runtime" in verdict.closed()


@pytest.fixture(scope="module")
def own_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runtime whose files a test may change: the folder with libcoreclr.so in it."""
    gates.demand("toolchain")
    root = tmp_path_factory.mktemp("dotnet") / "dotnet"
    root.mkdir(mode=0o755)
    source = runtimes.root("10.0.14")
    shutil.copy2(source / "dotnet", root / "dotnet")
    shutil.copytree(source / "host", root / "host")
    framework = root / "shared" / "Microsoft.NETCore.App" / "10.0.14"
    shutil.copytree(runtimes.framework("10.0.14"), framework)
    return framework


@contextmanager
def on(framework: Path) -> Iterator[int]:
    """A test program on that runtime."""
    dotnet = framework.parents[2] / "dotnet"
    dll = targets.built() / "GcHeap" / "release" / "GcHeap.dll"
    environment = runtimes.dotnet_environment("10.0.14") | {"DOTNET_ROOT": str(dotnet.parent)}
    with program([dotnet, "exec", dll], env=environment, stdin=subprocess.PIPE) as pid:
        yield pid


def test_dac_missing(own_runtime: Path) -> None:
    dac = own_runtime / "libmscordaccore.so"
    with on(own_runtime) as pid:
        dac.rename(own_runtime / "away")
        try:
            verdict = doctor(pid)
        finally:
            (own_runtime / "away").rename(dac)
    assert verdict.code == 1
    assert "DAC" in verdict.closed()
    assert "NuGet package" in verdict.gates["DAC"]["fixes"]["shell"]


def test_dac_that_does_not_match(own_runtime: Path) -> None:
    """The runtime's file was replaced by another: the DAC beside it is not the process's."""
    runtime = own_runtime / "libcoreclr.so"
    with on(own_runtime) as pid:
        shutil.copy2(runtime, own_runtime / "away")
        runtime.unlink()
        shutil.copy2(runtimes.framework("9.0.22") / "libcoreclr.so", runtime)
        try:
            verdict = doctor(pid)
        finally:
            (own_runtime / "away").rename(runtime)
    assert "DAC" in verdict.closed()


def test_dac_that_others_can_write(own_runtime: Path) -> None:
    dac = own_runtime / "libmscordaccore.so"
    with on(own_runtime) as pid:
        dac.chmod(0o666)
        try:
            verdict = doctor(pid)
        finally:
            dac.chmod(0o644)
    assert verdict.code == 1
    assert "DAC trusted" in verdict.closed()
    assert verdict.gates["DAC"]["state"] == "passed"


def run(words: str, capsys: pytest.CaptureFixture[str]) -> Verdict:
    code = main.run(["doctor", "--json", *words.split()])
    return judged(code, capsys.readouterr().out)


def test_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "_lib", lambda: tmp_path)
    verdict = run("", capsys)
    assert verdict.code == 1
    assert "host" in verdict.closed()
    assert verdict.gates["host"]["fixes"]


@pytest.mark.gate("root")
def test_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        verdict = run("", capsys)
    finally:
        os.chdir(before)
        subprocess.run(["umount", tmp_path], check=True)
    assert verdict.code == 1
    assert "disk" in verdict.closed()
    assert str(tmp_path) in verdict.gates["disk"]["evidence"]


def test_too_little_memory_for_a_copy_blocks_no_capture_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cgroup").write_text("0::/app\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "memory.max").write_text("2000000\n")
    (tmp_path / "app" / "memory.current").write_text("1500000\n")
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "CGROUP_ROOT", tmp_path)
    verdict = run("", capsys)
    gate = verdict.gates["memory for --async"]
    assert gate["state"] == "failed"
    assert gate["blocks"] is False
    assert str(tmp_path / "app") in gate["evidence"]


@pytest.mark.gate("toolchain", "embedded-host", "ptrace")
def test_where_every_gate_is_open_a_dump_can_be_taken(tmp_path: Path) -> None:
    with targets.running("GcHeap") as running:
        verdict = doctor(running.pid)
        assert verdict.code == 0
        assert verdict.closed() == []
        assert list(verdict.gates) == [
            *("exists", "user", "yama", "capabilities", "seccomp", "dumpable", "not traced"),
            *("namespaces", "bitness", "access", "runtime", "DAC", "DAC trusted", "host"),
            *("debugger", "stop and plan", "disk", "memory for --async", "breakpoints"),
            "kernel filter",
        ]
        assert running.alive()
        write_dump(running.pid, "heap", str(tmp_path / "heap.dmp"))
