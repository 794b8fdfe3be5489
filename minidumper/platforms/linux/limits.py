"""How much memory a copy may take: the machine's MemAvailable and the control groups' limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 says "no limit" with a number near 2**63


def available_memory() -> int:
    """Bytes that can be allocated without swapping (MemAvailable of proc(5))."""
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def cgroup_headroom(cgroup: Path | None = None) -> tuple[int, str] | None:
    """The least bytes left below a memory limit of control groups, and whose it is; None: no limit.

    `cgroup` is the file that names the groups, by default our own. Both versions are read
    (cgroups(7)): memory.max, memory.high and memory.current, or memory.limit_in_bytes and
    memory.usage_in_bytes; page cache that can be dropped counts as free.
    """
    found = []
    for folder, second in _groups("memory", cgroup or CGROUP):
        limits = ("memory.max", "memory.high") if second else ("memory.limit_in_bytes",)
        usage = _number(folder / ("memory.current" if second else "memory.usage_in_bytes"))
        for limit in (_number(folder / name) for name in limits):
            if limit is not None and usage is not None and limit < _UNLIMITED:
                found.append((limit - usage + _reclaimable(folder), str(folder)))
    return min(found, default=None)


def cgroup_pids_headroom(cgroup: Path) -> tuple[int, str] | None:
    """The fewest processes and threads that control groups still allow; None: no limit."""
    found = []
    for folder, _ in _groups("pids", cgroup):
        limit, usage = _number(folder / "pids.max"), _number(folder / "pids.current")
        if limit is not None and usage is not None:
            found.append((limit - usage, str(folder)))
    return min(found, default=None)


def _groups(controller: str, cgroup: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of a process's groups up to the root, and whether they are of version 2."""
    for line in cgroup.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUP_ROOT / controller if controllers else CGROUP_ROOT
        # Inside a container the path may be the host's while the mount starts at our own group.
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            yield root / group, not controllers


def _reclaimable(folder: Path) -> int:
    """Bytes of page cache that the kernel drops before it kills (inactive_file)."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(fields.get("total_inactive_file") or fields.get("inactive_file") or 0)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
