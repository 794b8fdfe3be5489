"""A heap dump reads as the full dump of the same stop, as stock ClrMD sees both.

Nothing that ClrMD reads comes from the disk but the DAC (dotnet/Oracle).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from minidumper.plan import DumpMode
from tests.support import gates, oracle, runtimes
from tests.support.dumps import dump
from tests.support.targets import SELF_CONTAINED, SINGLE_FILE, Running, running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

OLD = pytest.mark.gate("old-runtimes")
VERSIONS = [
    "10.0.14",
    "9.0.22",
    pytest.param("8.0.4", marks=OLD),
    pytest.param("3.1.23", marks=OLD),
]
SERVER = {"DOTNET_gcServer": "1", "DOTNET_GCHeapCount": "2"}
OLD_SERVER = {"COMPlus_gcServer": "1", "COMPlus_GCHeapCount": "2"}
"""3.1 knows the variables by their old prefix alone."""
SEGMENTS = {"DOTNET_GCName": "libclrgc.so"}
"""The standalone GC, which has segments where the runtime's own has regions (since .NET 7)."""


def assert_faithful(
    app: Running,
    folder: Path,
    version: str,
    *,
    dac: Sequence[Path] = (),
    sections: Sequence[str] = (),
) -> oracle.Sections:
    """Dump `app`, compare every section of the two dumps, and return those of the heap dump."""
    full, heap = dump(app.pid, folder, [DumpMode.FULL, DumpMode.HEAP], dac=dac)
    assert app.alive()
    expected = oracle.sections(Path(full.path), runtimes.dac(version), sections)
    found = oracle.sections(Path(heap.path), runtimes.dac(version), sections)
    different = oracle.differences(expected, found)
    shown = {name: (len(lines), lines[:6]) for name, lines in different.items()}
    assert not shown, f"the heap dump of {app.pid} differs: {shown}"
    assert found.get("nameless-types", []) == []
    # A thread of the runtime's own may end just then, such as the one that compiles methods anew.
    assert {warning.stage for warning in heap.warnings} <= {"threads"}
    return found


@pytest.mark.parametrize("program", ["GcHeap", "Dynamic", "Busy"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_runtime(program: str, version: str, tmp_path: Path) -> None:
    with running(program, version) as app:
        found = assert_faithful(app, tmp_path, version)
    assert all(found[name] for name in ("segments", "objects", "methods", "stacks", "stack-roots"))


@pytest.mark.parametrize(
    ("version", "env"),
    [
        pytest.param("10.0.14", SERVER, id="server-10"),
        pytest.param("3.1.23", OLD_SERVER, id="server-3.1", marks=OLD),
        pytest.param("10.0.14", {"DOTNET_gcConcurrent": "0"}, id="not-concurrent"),
        pytest.param("10.0.14", SEGMENTS, id="segments-10"),
        pytest.param("9.0.22", SEGMENTS | SERVER, id="segments-server-9"),
        pytest.param("8.0.4", SEGMENTS, id="segments-8", marks=OLD),
        pytest.param("10.0.14", {"DOTNET_EnableDiagnostics": "0"}, id="no-diagnostics"),
    ],
)
def test_every_gc(version: str, env: Mapping[str, str], tmp_path: Path) -> None:
    with running("GcHeap", version, env=env) as app:
        found = assert_faithful(app, tmp_path, version)
    subheaps = [line for line in found["segments"] if line.startswith("subheap ")]
    assert len(subheaps) == (2 if env.keys() & {"DOTNET_gcServer", "COMPlus_gcServer"} else 1)
    regions = version != "3.1.23" and "DOTNET_GCName" not in env
    assert all(f" regions {regions} " in line for line in subheaps)


@pytest.mark.parametrize("kind", [SINGLE_FILE, SELF_CONTAINED])
def test_every_way_to_publish(kind: str, tmp_path: Path) -> None:
    with running("GcHeap", kind) as app:
        found = assert_faithful(app, tmp_path, "10.0.14")
    assert found["types"]


def test_a_thousand_threads(tmp_path: Path) -> None:
    sections = ("threads", "stacks", "thread-statics", "stack-roots")
    with running("GcHeap", args=["--threads", "1000"]) as app:
        found = assert_faithful(app, tmp_path, "10.0.14", sections=sections)
    assert len(found["threads"]) > 1000


def test_a_large_heap(tmp_path: Path) -> None:
    """1 GB in small, large and pinned objects; by those sections whose reading takes seconds."""
    sizes = ["--small", "100", "--large", "800", "--pinned", "100"]
    with running("GcHeap", args=sizes) as app:
        assert_faithful(app, tmp_path, "10.0.14", sections=("segments", "handles", "threads"))


@pytest.mark.gate("root")
def test_a_target_of_another_user(tmp_path: Path) -> None:
    with running("GcHeap", user="nobody") as app:
        assert_faithful(app, tmp_path, "10.0.14")


@pytest.mark.gate("root", "unshare")
def test_a_target_in_other_namespaces(tmp_path: Path) -> None:
    with running("GcHeap", prefix=["unshare", "-pfm", "--mount-proc"]) as app:
        assert_faithful(app, tmp_path, "10.0.14")


def test_an_exception_filter_at_work(tmp_path: Path) -> None:
    """The DAC crashes in the stack roots of such a thread: in the Oracle, not in our worker."""
    with running("Busy", args=["--filter"]) as app:
        full, heap = dump(app.pid, tmp_path, [DumpMode.FULL, DumpMode.HEAP])
        assert app.alive()
    dac = runtimes.dac("10.0.14")
    expected = oracle.sections(Path(full.path), dac)
    assert oracle.differences(expected, oracle.sections(Path(heap.path), dac)) == {}
    assert any(line.endswith(" crashed") for line in expected[oracle.STACK_ROOTS])
    assert heap.warnings == ()


def test_createdump_is_found_wanting(tmp_path: Path) -> None:
    """The comparison sees what a heap dump lacks: here the pages of the application's files."""
    other = tmp_path / "createdump"
    with running("GcHeap") as app:
        (full,) = dump(app.pid, tmp_path, [DumpMode.FULL])
        subprocess.run(
            [
                runtimes.framework("10.0.14") / "createdump",
                "--withheap",
                "-f",
                other,
                str(app.pid),
            ],
            check=True,
            capture_output=True,
        )
    dac, names = runtimes.dac("10.0.14"), ("fields", "methods")
    expected = oracle.sections(Path(full.path), dac, names)
    assert oracle.differences(expected, oracle.sections(other, dac, names)).keys() == set(names)
