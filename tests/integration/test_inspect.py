"""`info` and `ps` on real processes and on the dumps that others write of them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from minidumper.cli import main
from minidumper.dumpinfo import dump_info
from minidumper.processes import ProcessRow, dotnet_processes
from minidumper.regionmap import map_process
from minidumper.writer import write_dump
from tests.support import gates, runtimes, targets

gates.demand("linux", module=True)

VERSIONS = [
    "10.0.14",
    "9.0.22",
    pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes")),
    pytest.param("3.1.23", marks=pytest.mark.gate("old-runtimes")),
]


@pytest.fixture(scope="module")
def target() -> Iterator[targets.Running]:
    gates.demand("toolchain")
    with targets.running("GcHeap") as running:
        yield running


def row_of(pid: int) -> ProcessRow:
    (row,) = [row for row in dotnet_processes() if row.pid == pid]
    return row


@pytest.mark.gate("gdb", "ptrace")
def test_gcores_core(target: targets.Running, tmp_path: Path) -> None:
    subprocess.run(
        ["gcore", "-o", tmp_path / "core", str(target.pid)], check=True, capture_output=True
    )
    info = dump_info(tmp_path / f"core.{target.pid}")
    assert info.writer == "gdb (gcore)"
    assert info.pid == target.pid
    with (tmp_path / f"core.{target.pid}").open("rb") as file:
        (segment,) = ELFFile(file).iter_segments("PT_NOTE")
        assert isinstance(segment, NoteSegment)
        kinds = [note["n_type"] for note in segment.iter_notes()]
    assert len(info.threads) == kinds.count("NT_PRSTATUS")
    assert target.pid in {row.tid for row in info.threads}
    assert info.runtime
    assert info.runtime.version == "10.0.14"
    assert info.runtime.dac == str(runtimes.dac("10.0.14"))
    assert info.stopped_by == ""
    # gcore leaves out pages of files that were not written, the metadata among them.
    assert info.runtime.heap_held == info.runtime.heap > 1_000_000
    assert info.runtime.metadata_held == 0


@pytest.mark.gate("ptrace")
@pytest.mark.parametrize("version", VERSIONS)
def test_createdumps_core(version: str, tmp_path: Path) -> None:
    gates.demand("toolchain")
    path = tmp_path / "core"
    server = {"DOTNET_gcServer": "1", "COMPlus_gcServer": "1"}
    with targets.running("GcHeap", version, env=server) as running:
        subprocess.run(
            [runtimes.framework(version) / "createdump", "--normal", "-f", path, str(running.pid)],
            check=True,
            capture_output=True,
        )
        info = dump_info(path)
        assert (info.writer, info.pid) == ("createdump", running.pid)
        assert info.runtime
        assert info.runtime.version == version
        modules = {row.path: row.build_id for row in info.modules}
        runtime = runtimes.framework(version) / "libcoreclr.so"
        assert modules[str(runtime)] == _build_id(runtime)
        assert info.runtime.heap_held < 100_000
        assert info.runtime.unreadable == ""
        assert info.runtime.server_gc is True


@pytest.mark.gate("ptrace", "embedded-host")
@pytest.mark.parametrize("version", VERSIONS)
def test_assemblies_have_their_versions(version: str, tmp_path: Path) -> None:
    gates.demand("toolchain")
    path = tmp_path / "heap.dmp"
    with targets.running("GcHeap", version) as running:
        write_dump(running.pid, "heap", str(path))
    info = dump_info(path)
    assert info.runtime
    assert info.runtime.server_gc is False
    rows = {Path(row.path).name: row for row in info.modules}
    assert (rows["GcHeap.dll"].version, rows["GcHeap.dll"].assembly_version) == ("1.0.0", "1.0.0.0")
    assert rows["System.Console.dll"].version == version
    assert rows["System.Private.CoreLib.dll"].assembly_version.endswith(".0.0.0")


@pytest.fixture
def cores_in(tmp_path: Path) -> Iterator[Path]:
    """The folder where the kernel lets its cores, however large."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, unlimited)
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.gate("kernel-cores")
@pytest.mark.parametrize("with_files", [False, True])
def test_the_kernels_core_of_a_net_process(with_files: bool, cores_in: Path) -> None:
    """core(5), coredump_filter: bit 2 is for private mappings of files."""
    gates.demand("toolchain")
    with targets.running("GcHeap", cwd=cores_in) as running:
        Path(f"/proc/{running.pid}/coredump_filter").write_text("0x37" if with_files else "0x33")
        os.kill(running.pid, signal.SIGSYS)  # .NET has handlers of its own for most others
        assert running.process.wait(60) == -signal.SIGSYS
    (path,) = cores_in.glob("core*")
    info = dump_info(path)
    assert (info.writer, info.pid) == ("the kernel", running.pid)
    assert info.stopped_by.startswith("SIGSYS in thread")
    assert info.runtime
    assert info.runtime.version == "10.0.14"
    if with_files:
        assert info.runtime.server_gc is False
        assert info.runtime.heap_held == info.runtime.heap > 1_000_000
        assert "10.0.14" in [row.version for row in info.modules]
    else:
        assert "libcoreclr.so are not in the file" in info.runtime.unreadable


@pytest.mark.gate("kernel-cores", "gcc")
def test_the_kernels_core(cores_in: Path) -> None:
    source = cores_in / "crash.c"
    source.write_text("int main(void) { *(volatile int *)8 = 1; }")
    compiler = shutil.which("gcc")
    assert compiler
    subprocess.run([compiler, source, "-o", cores_in / "crash"], check=True)
    done = subprocess.run([cores_in / "crash"], cwd=cores_in, check=False)
    assert done.returncode == -11
    (path,) = cores_in.glob("core*")
    info = dump_info(path)
    assert info.writer == "the kernel"
    assert info.stopped_by == f"SIGSEGV in thread {info.pid}, address 0x8"
    assert info.runtime is None
    assert str(cores_in / "crash") in [row.path for row in info.modules]


@pytest.mark.parametrize("version", VERSIONS)
def test_ps_knows_runtime_and_gc_mode(version: str) -> None:
    gates.demand("toolchain")
    server = {"DOTNET_gcServer": "1", "COMPlus_gcServer": "1"}
    with targets.running("GcHeap", version, env=server) as running:
        row = row_of(running.pid)
        assert (row.name, row.version, row.user) == ("GcHeap", version, "root")
        assert row.gc == "server"
        assert row.missing == ""
        assert row.command.endswith("GcHeap.dll")
        assert row.rss > 10e6


@pytest.mark.gate("old-runtimes")
@pytest.mark.parametrize("server", [False, True])
def test_ps_reads_the_settings_where_threads_have_no_names(server: bool, tmp_path: Path) -> None:
    """Before .NET 5: GcHeap.runtimeconfig.json, beside the program."""
    gates.demand("toolchain")
    shutil.copytree(targets.built() / "GcHeap" / "release", tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "GcHeap.runtimeconfig.json"
    options = json.loads(settings.read_bytes())
    options["runtimeOptions"].setdefault("configProperties", {})["System.GC.Server"] = server
    settings.write_text(json.dumps(options))
    dotnet = runtimes.root("3.1.23") / "dotnet"
    with subprocess.Popen(
        [dotnet, "exec", "--fx-version", "3.1.23", tmp_path / "GcHeap.dll"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=runtimes.dotnet_environment("3.1.23"),
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline().startswith(b"ready")
        assert row_of(process.pid).gc == ("server" if server else "workstation")
        process.stdin.close()


def test_ps_as_json(target: targets.Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["ps", "--json"]) == 0
    rows = {row["pid"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[target.pid]["gc"] == "workstation"
    assert main.run(["ps"]) == 0
    assert f"{target.pid}" in capsys.readouterr().out


@pytest.mark.gate("root", "unshare")
def test_ps_tells_the_pid_in_another_namespace() -> None:
    gates.demand("toolchain")
    with targets.running("GcHeap", prefix=["unshare", "-pfm"]) as running:
        row = row_of(running.pid)
        assert row.namespace_pid == 1
        assert row.version == "10.0.14"


@pytest.mark.gate("root")
def test_ps_of_another_user_says_what_is_missing(target: targets.Running) -> None:
    """Another user sees our process, and why he could not dump it."""
    code = (
        "import json, os, minidumper.platforms.linux.dotnet\n"
        "from minidumper.processes import dotnet_processes\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps([row.as_dict() for row in dotnet_processes()]))\n"
    )
    told = _python(code)
    (row,) = [row for row in json.loads(told) if row["pid"] == target.pid]
    assert row["missing"] == "no access (user)"
    assert (row["name"], row["user"], row["gc"]) == ("GcHeap", "root", "workstation")
    assert (row["version"], row["heap"]) == ("", None)


def test_ps_takes_less_than_half_a_second_with_1000_processes() -> None:
    gates.demand("toolchain")
    crowd = [subprocess.Popen(["sleep", "600"]) for _ in range(1000)]
    try:
        code = (
            "import time\n"
            "from minidumper.processes import dotnet_processes\n"
            "began = time.process_time()\n"
            "dotnet_processes()\n"
            "print(time.process_time() - began)\n"
        )
        assert float(_python(code)) < 0.5
    finally:
        for process in crowd:
            process.kill()
        for process in crowd:
            process.wait()


def _python(code: str) -> str:
    """What a Python of its own prints; its packages are ours."""
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "HOME": "/"}
    ).stdout


def _build_id(path: Path) -> str:
    """As binutils sees it."""
    text = subprocess.run(
        ["readelf", "-n", path], check=True, capture_output=True, text=True
    ).stdout
    return text.partition("Build ID: ")[2].split()[0]


@pytest.mark.parametrize("kind", [targets.SINGLE_FILE, targets.SELF_CONTAINED])
def test_ps_knows_other_kinds_of_applications(kind: str) -> None:
    gates.demand("toolchain")
    with targets.running("GcHeap", kind) as running:
        row = row_of(running.pid)
        assert (row.name, row.version, row.missing) == ("GcHeap", "10.0.14", "")


@pytest.mark.gate("root", "cgroup")
def test_ps_names_the_container(target: targets.Running) -> None:
    """As docker and containerd do: the control group has the container's id for its name."""
    identity = "0123456789abcdef" * 4
    with gates.control_group("memory", identity) as group:
        (group / "cgroup.procs").write_text(str(target.pid))
        assert row_of(target.pid).container == identity[:12]
    assert row_of(target.pid).container == ""


def test_ps_tells_about_how_large_the_heap_is(target: targets.Running) -> None:
    heap = map_process(target.pid).facts["gc_bytes"]
    assert isinstance(heap, int)
    shown = row_of(target.pid).heap
    assert shown is not None
    assert heap < shown < 2 * heap + 10_000_000
