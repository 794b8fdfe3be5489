"""What a snapshot costs its target: the pause, against others, and throughput while it lives.

    python benchmarks/snapshots.py [--heap MB ...] [--rounds N] [--huge] [--folder DIR]

The pause is measured inside the target (the longest gap of a loop that reads the clock), in turn
for a dump by --async, one without, and createdump's. Throughput is how many objects a second the
program writes to, one after another through all of its heap, for some seconds before a snapshot is
held and meanwhile: the worst case, as each page is copied once.
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
_COLUMNS = (
    "`--async`",
    "without",
    "createdump",
    "`--async` of createdump",
    "objects written, M/s",
    "while held, M/s",
    f"copied in {_HELD_S:g} s",
)


@contextlib.contextmanager
def huge_pages() -> Iterator[None]:
    """Transparent huge pages everywhere; as before in the end."""
    before = _HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
    _HUGE_PAGES.write_text("always")
    try:
        yield
    finally:
        _HUGE_PAGES.write_text(before)


def row(heap: int, rounds: int, folder: Path) -> str:
    """Medians of the pauses of one heap size, and throughput."""
    with running("GcHeap", args=["--small", str(heap)]) as app:
        found: dict[str, list[float]] = {"snapshot": [], "stop": [], "createdump": []}
        for _ in range(rounds):
            found["snapshot"].append(ours(app, folder, "--async").pause_s)
            found["stop"].append(ours(app, folder).pause_s)
            found["createdump"].append(createdump(app, folder, "10.0.14").pause_s)
        before, held, copied = throughput(app)
    snapshot, stop, peer = (statistics.median(row) * 1e3 for row in found.values())
    pauses = " | ".join(f"{pause:,.0f} ms" for pause in (snapshot, stop, peer))
    rates = f"{before / 1e6:.1f} | {held / 1e6:.1f} | {copied / 1e6:,.0f} MB"
    return f"| {heap:,} MB | {pauses} | {snapshot / peer:.2f} | {rates} |"


def throughput(app: Running) -> tuple[float, float, int]:
    """Objects written a second before a snapshot is held, and meanwhile; bytes copied by that."""
    assert app.ask("write") == "writing"
    before = _rate(app)
    with platforms.open_target(app.pid) as target, platforms.snapshot(target) as snapshot:
        return before, _rate(app), snapshot.copied_on_write() or 0


def _rate(app: Running) -> float:
    began, before = time.monotonic(), int(app.ask("written"))
    time.sleep(_HELD_S)
    return (int(app.ask("written")) - before) / (time.monotonic() - began)


def main() -> None:
    """Print one line a heap size, as docs/performance.md has them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--heap", type=int, nargs="+", default=[50, 500, 2000, 4000, 8000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--huge", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    options = parser.parse_args()
    targets.DEADLINE_S = READY_S
    pages = huge_pages() if options.huge else contextlib.nullcontext()
    with pages, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(f"| heap | {' | '.join(_COLUMNS)} |\n|{'---|' * (len(_COLUMNS) + 1)}")
        for heap in options.heap:
            print(row(heap, options.rounds, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
