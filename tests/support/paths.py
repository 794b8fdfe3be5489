"""Where things are: the checkout, what lies beside it, and the cache of what tests prepare once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLCHAIN = CHECKOUT.parent / "shared" / "toolchain"


def cache() -> Path:
    """The folder for what is laid down or built once per machine.

    That of root is one that other users can enter: targets run as them.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        home = Path("/var/cache")  # FHS 5.5
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = home / "minidumper-tests"
    root.mkdir(parents=True, exist_ok=True)
    return root


def prepared(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; `make` fills it where it is not there yet.

    It gets its name when it is complete. Two sessions may both make it: the first one's stays.
    """
    where = cache() / name
    if where.exists():
        return where
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache()) as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        make(content)
        try:
            content.rename(where)
        except OSError:
            if not where.exists():
                raise
    return where
