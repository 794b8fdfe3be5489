"""What a snapshot costs its target: the pause, against others, and throughput while it lives.

    python benchmarks/snapshots.py [--heap MB ...] [--rounds N] [--huge] [--folder DIR]

The pause is measured inside the target (the longest gap of a loop that reads the clock), in turn
for a dump by --async, one without, and createdump's. Throughput is that of a program that
allocates as fast as it can, for some seconds before a snapshot is held, meanwhile, and after it.
--huge sets transparent huge pages to "always" for the time of the run, and needs root. Needs the
toolchain.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.capture import READY_S, createdump, ours
from minidumper import platforms
from tests.support import targets
from tests.support.targets import Running, running

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_HELD_S = 3.0


@contextlib.contextmanager
def huge_pages() -> Iterator[None]:
    """Transparent huge pages everywhere; as before in the end."""
    before = _HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
    _HUGE_PAGES.write_text("always")
    try:
        yield
    finally:
        _HUGE_PAGES.write_text(before)


def pauses(heap: int, rounds: int, folder: Path) -> str:
    """Medians of the pauses of one heap size."""
    with running("GcHeap", args=["--small", str(heap)]) as app:
        found: dict[str, list[float]] = {"snapshot": [], "stop": [], "createdump": []}
        for _ in range(rounds):
            found["snapshot"].append(ours(app, folder, "--async").pause_s)
            found["stop"].append(ours(app, folder).pause_s)
            found["createdump"].append(createdump(app, folder, "10.0.14").pause_s)
    snapshot, stop, peer = (statistics.median(row) * 1e3 for row in found.values())
    return (
        f"{heap:>6} MB | {snapshot:8.0f} ms {stop:8.0f} ms {peer:10.0f} ms | {snapshot / peer:6.3f}"
    )


def _rate(app: Running) -> float:
    """Rounds a second."""
    began, before = time.monotonic(), int(app.ask("rounds"))
    time.sleep(_HELD_S)
    return (int(app.ask("rounds")) - before) / (time.monotonic() - began)


def throughput() -> str:
    """What a program that writes all the time loses, and what it had to copy."""
    with running("Alloc") as app, platforms.open_target(app.pid) as target:
        time.sleep(_HELD_S)  # until its heap has grown
        before = _rate(app)
        with platforms.snapshot(target) as snapshot:
            held = _rate(app)
            copied = snapshot.copied_on_write()
        after = _rate(app)
    usual = (before + after) / 2
    return (
        f"throughput: {held / usual:.2f} of the usual while a snapshot is held for {_HELD_S:g} s; "
        f"{(copied or 0) / 1e6:.1f} MB copied"
    )


def main() -> None:
    """Print one line a heap size, and one of throughput."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--heap", type=int, nargs="+", default=[50, 500, 2000, 8000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--huge", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    options = parser.parse_args()
    targets.DEADLINE_S = READY_S
    pages = huge_pages() if options.huge else contextlib.nullcontext()
    with pages, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print("   heap   | pause: --async, without, createdump  | --async of createdump")
        for heap in options.heap:
            print(pauses(heap, options.rounds, Path(folder)), flush=True)
        print(throughput())


if __name__ == "__main__":
    main()
