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


def cgroup_headroom() -> tuple[int, str] | None:
    """The least bytes left below a limit of our control groups and whose it is; None: no limit.

    Both versions are read (cgroups(7)): memory.max and memory.current, or
    memory.limit_in_bytes and memory.usage_in_bytes; page cache that can be dropped counts as free.
    """
    found = []
    for folder, limit_name, usage_name in _memory_groups():
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None and limit < _UNLIMITED:
            found.append((limit - usage + _reclaimable(folder), str(folder)))
    return min(found, default=None)


def _memory_groups() -> Iterator[tuple[Path, str, str]]:
    for line in CGROUP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, names = CGROUP_ROOT, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root = CGROUP_ROOT / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # Inside a container the path may be the host's while the mount starts at our own group.
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            yield (root / group, *names)


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
