"""Heap dumps of one process by minidumper and by createdump: size, pause, time, memory.

    python benchmarks/capture.py [--heap MB ...] [--runtime VERSION] [--server] [--rounds N]
        [--folder DIR]

Every line is one heap size: a GcHeap process of that much live data, both tools in turn on it,
files in the same folder. The pause is measured inside the target (the longest gap of a loop that
reads the clock), the copy speed against dd from memory to the same folder. Before each dump dd
writes as much: in a virtual machine memory that nobody touched before is up to ten times slower,
and the first writer alone would pay for it. Needs the toolchain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support import runtimes, targets
from tests.support.targets import Running, running

READY_S = 600.0
"""Seconds that a program may take to build its heap: 8 GB take more than a minute."""


@dataclass(frozen=True)
class Figure:
    """What one dump cost; sizes in bytes, times in seconds."""

    disk_size: int
    pause_s: float
    whole_s: float
    memory: int
    copied: float = 0.0
    write_s: float = 0.0
    gc_in_use: int = 0


class _Peak:
    """The most memory (PSS) that a process and its children held together."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self._pid)
                family = [root, *root.children(recursive=True)]
                self.bytes = max(self.bytes, sum(p.memory_full_info().pss for p in family))

    def close(self) -> None:
        self._done.set()
        self._thread.join()


def _measured(app: Running, command: Sequence[str], path: Path) -> tuple[Figure, str]:
    app.start_clock()
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        peak = _Peak(p.pid)
        output, errors = p.communicate()
        peak.close()
    whole = time.monotonic() - began
    pause = app.gap_ms() / 1000
    if p.returncode:
        raise SystemExit(f"{command[0]} failed: {errors}")
    size = path.stat().st_blocks * 512
    path.unlink()
    return Figure(size, pause, whole, peak.bytes), output


def ours(app: Running, folder: Path, *options: str) -> Figure:
    """A heap dump by minidumper."""
    path = folder / "ours.dmp"
    command = [sys.executable, "-m", "minidumper", "-mh", "--json", "-o", str(path), *options]
    figure, output = _measured(app, [*command, str(app.pid)], path)
    report = json.loads(output)
    return Figure(
        figure.disk_size,
        figure.pause_s,
        figure.whole_s,
        figure.memory,
        write_s=report["write_s"],
        gc_in_use=report["clr"]["gc_bytes"],
    )


def createdump(app: Running, folder: Path, runtime: str) -> Figure:
    """A heap dump by createdump."""
    path = folder / "createdump.dmp"
    command = [
        str(runtimes.framework(runtime) / "createdump"),
        "--withheap",
        "-f",
        str(path),
        str(app.pid),
    ]
    return _measured(app, command, path)[0]


def _dd_speed(folder: Path, size: int) -> float:
    """Bytes a second that dd writes from memory to `folder`."""
    path = folder / "dd.bin"
    part = min(size, 2 << 30)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as source:
        block = os.urandom(1 << 20)
        for _ in range(part >> 20):
            source.write(block)
        source.flush()
        command = ["dd", f"if={source.name}", f"of={path}", "bs=8M", "status=none", "conv=notrunc"]
        began = time.monotonic()
        for start in range(0, size, part):
            subprocess.run([*command, "oflag=seek_bytes", f"seek={start}"], check=True)
        took = time.monotonic() - began
        written = path.stat().st_size
    path.unlink()
    return written / took


def _median(figures: Sequence[Figure], name: str) -> float:
    return float(statistics.median(getattr(figure, name) for figure in figures))


def _line(heap: int, args: argparse.Namespace, folder: Path) -> str:
    env = {"DOTNET_gcServer": "1"} if args.server else {}
    with running("GcHeap", runtime=args.runtime, args=["--small", str(heap)], env=env) as app:
        rows: dict[str, list[Figure]] = {"stop": [], "async": [], "createdump": []}
        size = (heap + 100) << 20
        speeds = []
        _dd_speed(folder, size)
        for _ in range(args.rounds):
            speeds.append(_dd_speed(folder, size))
            rows["stop"].append(ours(app, folder))
            _dd_speed(folder, size)
            rows["async"].append(ours(app, folder, "--async"))
            _dd_speed(folder, size)
            rows["createdump"].append(createdump(app, folder, args.runtime))
        own, peer = rows["stop"], rows["createdump"]
        speed = _median(own, "disk_size") / _median(own, "write_s")
        ratio = speed / statistics.median(speeds)
        extra = own[0].disk_size - own[0].gc_in_use
        pause, peer_pause = _median(own, "pause_s") * 1e3, _median(peer, "pause_s") * 1e3
        # createdump's reads leave mappings of the zero page behind, which a later dump then has.
        own_size, peer_size = own[0].disk_size / 1e6, peer[0].disk_size / 1e6
        return (
            f"{heap:>6} MB | {own_size:8.1f} {peer_size:8.1f} {own_size / peer_size:5.2f} | "
            f"+{extra / 1e6:5.1f} | {pause:7.0f} {_median(rows['async'], 'pause_s') * 1e3:7.0f} "
            f"{peer_pause:7.0f} {pause / peer_pause:5.2f} | "
            f"{_median(own, 'whole_s'):5.2f} {_median(peer, 'whole_s'):5.2f} | {ratio:5.2f} | "
            f"{_median(own, 'memory') / 1e6:6.0f}"
        )


def main() -> None:
    """Print one line a heap size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--heap", type=int, nargs="+", default=[50, 500, 2000, 8000])
    parser.add_argument("--runtime", default="10.0.14")
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    args = parser.parse_args()
    targets.DEADLINE_S = READY_S
    print(
        "   heap   | size MB: ours, createdump, ratio | over GC | pause ms: ours, --async, "
        "createdump, ratio | whole s | of dd | memory MB"
    )
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for heap in args.heap:
            print(_line(heap, args, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
