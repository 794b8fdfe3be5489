"""The worker with ClrMD and the DAC, on real processes of every runtime."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from minidumper.clr.answers import ClrRegions
from minidumper.clr.client import ClrClient
from minidumper.clr.dac import find_dac
from minidumper.clr.runtime import RuntimeKind, find_runtime
from minidumper.dumpfile import open_dump
from minidumper.errors import BridgeError
from minidumper.ranges import PAGE_SIZE, MemoryRange, Reason, joined
from minidumper.writer import write_dump
from tests.support import gates, paths, runtimes
from tests.support.targets import Running, running

gates.demand("linux", module=True)

from minidumper.platforms.linux.process import LinuxProcess  # noqa: E402 - behind the gate

pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

VERSIONS = [
    "10.0.14",
    "9.0.22",
    pytest.param("8.0.4", marks=pytest.mark.gate("old-runtimes")),
    pytest.param("3.1.23", marks=pytest.mark.gate("old-runtimes")),
]
NOBODY = 65534
MAX_WORKER = 200 << 20
"""Bytes that minidumper may take whatever the target (goal of the product)."""


@contextmanager
def talking(target: LinuxProcess, user: tuple[int, int] | None = None) -> Iterator[ClrClient]:
    runtime = find_runtime(target)
    assert runtime
    with find_dac(runtime) as dac, ClrClient.start(target, runtime, dac, user=user) as client:
        yield client


@pytest.fixture(scope="module")
def app() -> Iterator[Running]:
    with running("GcHeap", args=["--small", "20", "--threads", "5"]) as app:
        yield app


def collect(target: LinuxProcess, client: ClrClient, **how: Any) -> ClrRegions:
    with target.stopped():
        return client.collect(target.threads(), **how)


def worker_of(client: ClrClient) -> psutil.Process:
    return psutil.Process(client._process.pid)


def size(regions: ClrRegions, reason: Reason) -> int:
    return sum(r.size for r in regions.ranges if r.reasons & reason)


def gc_heap(regions: ClrRegions) -> list[MemoryRange]:
    return joined((r.start, r.end, None) for r in regions.ranges if r.reasons & Reason.GC_HEAP)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("program", ["GcHeap", "Dynamic"])
def test_what_a_dump_needs(program: str, version: str) -> None:
    with running(program, version) as app, LinuxProcess(app.pid) as target:
        with talking(target) as client:
            before = collect(target, client)
            rehearsal = client.rehearse(60)
            heap = collect(target, client)
            committed = collect(target, client, committed=True)
            minimal = collect(target, client, minimal=True)
            with target.stopped():
                inspection = client.inspect()
            assert worker_of(client).memory_info().rss < MAX_WORKER
        assert app.alive()
    assert rehearsal["complete"]
    assert rehearsal["failures"] == 0
    for regions in (before, heap, committed, minimal):
        assert regions.warnings == []
        edges = list(itertools.chain.from_iterable(r[:2] for r in regions.ranges))
        assert edges == sorted(edges)
        assert all(edge % PAGE_SIZE == 0 for edge in edges)
        assert all(r.reasons in range(1, 1 << 13) for r in regions.ranges)
    facts = heap.facts
    assert facts["can_walk"]
    assert facts["gc_bytes"] <= size(heap, Reason.GC_HEAP) < size(committed, Reason.GC_HEAP)
    assert size(minimal, Reason.GC_HEAP) == 0
    for reason in (Reason.LOADER_HEAP, Reason.JIT_CODE, Reason.STUBS, Reason.METADATA):
        assert size(heap, reason) > 0, reason
    # The walk before the stop adds pages that the stop alone does not reach.
    assert size(heap, Reason.DAC_READ) > size(before, Reason.DAC_READ)
    assert facts["frames"] >= facts["threads"] > 0
    assert inspection.problems == ()
    counts = inspection.counts
    assert counts["missing_reads"] == counts["unknown_objects"] == 0
    assert (counts["modules"], counts["methods"]) > (10, 5000)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_program_that_throws_all_the_time(version: str) -> None:
    """Structures are torn while it runs, and at the stop exceptions are in flight."""
    with running("Thrower", version) as app, LinuxProcess(app.pid) as target:
        with talking(target) as client:
            client.rehearse(60)
            for i in range(20):
                assert collect(target, client, minimal=i % 2 == 0).facts["frames"] > 0
        assert app.ask("wrong") == "nothing"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_stop_is_asked_anew_whether_a_gc_is_at_work(version: str) -> None:
    """One worker sees both, whatever it saw first: ClrMD keeps its first answer."""
    with (
        running("Alloc", version, ["--threads", "2"]) as app,
        LinuxProcess(app.pid) as target,
        talking(target) as client,
    ):
        # Not by asking it: it answers between two GCs, and the stop would follow at once.
        clock = psutil.Process(app.pid)
        seen: list[bool] = []
        while not (True in seen[1:] and False in seen[1:]):
            assert len(seen) < 1000, f"of {len(seen)} stops each was the same: {seen[0]}"
            seen.append(bool(collect(target, client).facts["can_walk"]))
            ran = sum(clock.cpu_times()[:2])
            while sum(clock.cpu_times()[:2]) == ran:  # until it has run to another moment
                pass


def test_another_copy_of_the_memory(tmp_path: Path) -> None:
    """As with a snapshot: rehearsed on the process, collected from elsewhere."""
    with running("GcHeap") as app, LinuxProcess(app.pid) as target, talking(target) as client:
        client.rehearse(60)
        live = collect(target, client)
        write_dump(app.pid, "full", str(tmp_path / "full.dmp"))
        app.end()
        with open_dump(tmp_path / "full.dmp") as dump:
            client.attach(dump.memory_source())
            copied = client.collect(dump.threads())
    assert copied.facts == live.facts
    assert gc_heap(copied) == gc_heap(live) != []


@pytest.mark.gate("root")
@pytest.mark.parametrize("version", VERSIONS)
def test_it_gives_up_its_rights_before_it_loads_the_dac(version: str) -> None:
    with (
        running("GcHeap", version) as app,
        LinuxProcess(app.pid) as target,
        talking(target, (NOBODY, NOBODY)) as client,
    ):
        assert collect(target, client).facts["frames"] > 0
        worker = worker_of(client)
        assert set(worker.uids()) == set(worker.gids()) == {NOBODY}
        status = Path(f"/proc/{worker.pid}/status").read_text()
        assert "Groups:\t \n" in status
        assert "CapEff:\t0000000000000000\n" in status
        maps = Path(f"/proc/{worker.pid}/maps").read_text()
        assert str(runtimes.dac(version)) in maps


def test_the_worker_stands_back(app: Running) -> None:
    with LinuxProcess(app.pid) as target, talking(target) as client:
        collect(target, client)
        worker = worker_of(client)
        assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text() == "1000\n"
        assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert set(worker.environ()) <= {"DOTNET_EnableDiagnostics", "LC_CTYPE"}
        assert worker.cwd() == "/"
        # Standard input and output are nobody's; no file of the target's is open but its memory.
        assert {os.readlink(f"/proc/{worker.pid}/fd/{n}") for n in (0, 1)} == {"/dev/null"}


def test_a_worker_that_is_killed_is_an_error_and_no_harm(app: Running) -> None:
    with LinuxProcess(app.pid) as target, talking(target) as client:
        collect(target, client)
        with target.stopped():
            worker_of(client).kill()
            with pytest.raises(BridgeError, match="SIGKILL") as caught:
                client.collect(target.threads())
        assert caught.value.exit_status == -signal.SIGKILL
    assert app.alive()


def test_it_dies_with_its_parent_even_when_it_hangs(app: Running) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from tests.integration.test_bridge import LinuxProcess, talking, worker_of, collect\n"
        "with LinuxProcess(int(sys.argv[1])) as target, talking(target) as client:\n"
        "    collect(target, client)\n"
        "    worker_of(client).suspend()\n"
        "    print(worker_of(client).pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(app.pid), paths.CHECKOUT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([worker])
    assert not worker.is_running()
    assert app.alive()


@pytest.mark.gate("gcc")
def test_a_single_file_is_known_by_its_exports(tmp_path: Path) -> None:
    source = r"""
        #include <stdio.h>
        #include <unistd.h>
        struct { char signature[18]; int version; unsigned char indexes[3][24]; int numbers[4]; }
        DotNetRuntimeInfo = {
            "DotNetRuntimeInfo", 2, {{3, 1, 2, 3}, {2, 0xab, 0xcd}}, {9, 0, 4, 7}
        };
        int main(void) { puts("ready"); fflush(stdout); pause(); }
    """
    program = tmp_path / "single"
    options = ["-rdynamic", "-Wl,--hash-style=gnu", "-xc", "-"]
    subprocess.run(["gcc", *options, "-o", program], input=source, text=True, check=True)
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            with LinuxProcess(process.pid) as target:
                runtime = find_runtime(target)
        finally:
            process.kill()
    assert runtime
    assert runtime.kind is RuntimeKind.SINGLE_FILE
    assert (runtime.path, runtime.build_id) == (str(program), "010203")
    assert (runtime.dac_build_id, runtime.version) == ("abcd", "9.0.0")
