"""Processes of every kind that minidumper must be right for, or refuse with the reason."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.support import gates, runtimes
from tests.support.commands import minidumper
from tests.support.targets import DEADLINE_S, running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

NATIVE_AOT = """
    #include <unistd.h>
    char DotNetRuntimeDebugHeader[64] = "not empty";
    int main(void) { write(1, "ready\\n", 6); pause(); }
"""
"""The export by which NativeAOT is recognised; the compiler itself cannot be had here."""

PLAIN = '#include <unistd.h>\nint main(void) { write(1, "ready\\n", 6); pause(); }'


@contextlib.contextmanager
def compiled(
    source: str, folder: Path, *options: str | Path, compiler: str = "gcc"
) -> Iterator[int]:
    """A C program that runs and is ready."""
    program = folder / "program"
    command = [compiler, "-xc", "-", "-o", program, *options]
    subprocess.run(command, input=source, text=True, check=True)
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process.pid
            assert process.poll() is None, "the target is gone"
        finally:
            process.kill()


@pytest.mark.gate("gcc")
@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        (NATIVE_AOT, ["-rdynamic"], "compiled to native code (NativeAOT)"),
        (PLAIN, [], "no .NET runtime in it"),
        (PLAIN, ["-static"], "no .NET runtime in it"),
    ],
    ids=["native-aot", "plain", "static"],
)
def test_without_a_clr(source: str, options: Sequence[str], reason: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with compiled(source, tmp_path, *options) as pid:
        refused = minidumper("-mh", "-o", "x.dmp", pid, cwd=tmp_path)
        taken = minidumper("-mm", "-ma", "--json", "-o", "taken/", pid, cwd=tmp_path)
    assert refused.returncode == 1
    error, hint = refused.stderr.splitlines()
    assert reason in error
    assert "-ma" in hint
    assert not (tmp_path / "x.dmp").exists()
    assert taken.returncode == 0, taken.stderr
    minimal, full = json.loads(taken.stdout)
    assert 0 < minimal["size"] < full["size"]


@pytest.mark.gate("musl", "gdb")
def test_a_runtime_on_musl(tmp_path: Path, taken: Path) -> None:
    """Its DAC would be of another C library than ours: what needs none works all the same."""
    library = tmp_path / "libcoreclr.so"
    subprocess.run(
        ["musl-gcc", "-shared", "-xc", "-", "-o", library], input="", text=True, check=True
    )
    with compiled(
        PLAIN, tmp_path, "-Wl,--no-as-needed", "-xnone", library, compiler="musl-gcc"
    ) as pid:
        refused = minidumper("-mh", "-o", taken / "x.dmp", pid, cwd=tmp_path)
        done = minidumper("-mm", "-ma", "--json", "-o", taken, pid, cwd=tmp_path)
    assert refused.returncode == 1
    assert "runs on musl" in refused.stderr
    assert done.returncode == 0, done.stderr
    minimal, full = (Path(report["path"]) for report in json.loads(done.stdout))
    for path in (minimal, full):
        told = subprocess.run(
            ["gdb", "-batch", "-ex", "info threads", "-c", path, tmp_path / "program"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ld-musl-x86_64.so.1" in told.stdout
    assert [path.name for path in sorted(taken.iterdir())] == sorted([minimal.name, full.name])


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """Where the dumps go."""
    where = tmp_path / "taken"
    where.mkdir()
    return where


def assert_verified(pid: int, folder: Path) -> dict[str, object]:
    """A heap dump of a process, read back; what was found in it."""
    done = minidumper("-mh", "--json", "-o", folder / "x.dmp", pid, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["warnings"] == []
    verified = minidumper("verify", "--json", folder / "x.dmp", cwd=folder)
    report: dict[str, object] = json.loads(verified.stdout)
    assert (verified.returncode, report["problems"]) == (0, []), verified.stderr
    return report


class Sdk:
    """The SDK at work in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.env = runtimes.dotnet_environment("10.0.14") | {
            "DOTNET_CLI_HOME": str(folder),
            "TMPDIR": str(folder),
        }
        self.dotnet = runtimes.root("10.0.14") / "dotnet"
        self.folder = folder

    def project(self, body: str = "") -> Path:
        """A program that the SDK can build offline."""
        (self.folder / "Program.cs").write_text('System.Console.WriteLine("hello");\n')
        project = self.folder / "Hello.csproj"
        project.write_text(
            '<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType>'
            "<TargetFramework>net10.0</TargetFramework><UseAppHost>false</UseAppHost>"
            f"</PropertyGroup>{body}</Project>\n"
        )
        shutil.copy(runtimes.toolchain() / "NuGet.Config", self.folder / "NuGet.Config")
        return project

    def build(self, *options: str) -> subprocess.Popen[str]:
        """Start `dotnet build`."""
        config = f"-p:RestoreConfigFile={runtimes.toolchain() / 'NuGet.Config'}"
        return subprocess.Popen(
            [self.dotnet, "build", "--verbosity=quiet", "-nodeReuse:false", config, *options],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def test_the_compiler_server(tmp_path: Path, taken: Path) -> None:
    """VBCSCompiler after it compiled: a real server that nobody here wrote."""
    sdk = Sdk(tmp_path)
    sdk.project()
    with sdk.build("-p:UseSharedCompilation=true") as build:
        output, _ = build.communicate(timeout=4 * DEADLINE_S)
    assert build.returncode == 0, output
    (server,) = [
        process
        for process in psutil.Process().children(recursive=True)
        if any(word.endswith("VBCSCompiler.dll") for word in process.cmdline())
        or process.name() == "VBCSCompiler"
    ]
    try:
        report = assert_verified(server.pid, taken)
        assert server.is_running()
        assert server.status() != psutil.STATUS_ZOMBIE
    finally:
        server.kill()
        server.wait()
    assert report["runtime"] == "10.0.14"


def test_a_build_in_the_middle(tmp_path: Path, taken: Path) -> None:
    """`dotnet build` while it waits for a task of ours; it then ends well."""
    sdk = Sdk(tmp_path)
    go = tmp_path / "go"
    started = tmp_path / "started"
    command = f"touch {started}; while [ ! -e {go} ]; do sleep 0.05; done"
    sdk.project(
        f'<Target Name="Wait" AfterTargets="CoreCompile"><Exec Command="{command}" /></Target>'
    )
    with sdk.build("-p:UseSharedCompilation=false") as build:
        try:
            while not started.exists():
                assert build.poll() is None, build.stdout and build.stdout.read()
            assert_verified(build.pid, taken)
            go.touch()
            output, _ = build.communicate(timeout=4 * DEADLINE_S)
        finally:
            go.touch()
            build.kill()
    assert build.returncode == 0, output


@pytest.mark.parametrize("program", ["Dynamic", "Busy"])
def test_verify_agrees(program: str, taken: Path) -> None:
    with running(program) as app:
        assert_verified(app.pid, taken)
        assert app.alive()
