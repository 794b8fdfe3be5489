"""Reopen a dump and prove that its readers find all they need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .clr.client import ClrClient, Progress
from .clr.dac import find_dac
from .clr.runtime import find_runtime
from .dumpfile import open_dump
from .errors import BridgeError, UsageError
from .plan import DumpMode


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found in a dump, and what is wrong with it."""

    path: str
    runtime: str
    """Version of the runtime in the dump; "" where there is none."""
    counts: dict[str, int]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "path": self.path,
            "runtime": self.runtime,
            "counts": self.counts,
            "problems": list(self.problems),
        }


def verify(
    path: str | os.PathLike[str],
    *,
    dac: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Read every object, type, thread and module of a dump from the file alone.

    `dac` are files or folders with the runtime's DAC, for dumps from elsewhere.

    Raises:
        DumpFormatError: the file is no dump, or a damaged one.
        UsageError: it is a minimal dump.
        DacNotFoundError, DacUntrustedError: there is no DAC here to read it with.
        BridgeError: the worker failed or hung.
    """
    name = os.fspath(path)
    with open_dump(path) as dump:
        if dump.note and dump.note.get("mode") == DumpMode.MINIMAL.value:
            raise UsageError(
                f"{name} is a minimal dump: there is no heap in it that could be read",
                hint="verify heap (-mh) and full (-ma) dumps",
            )
        runtime = find_runtime(dump)
        if runtime is None:
            return VerifyReport(name, "", {}, ("no .NET runtime is in the dump",))
        with (
            find_dac(runtime, [Path(item) for item in dac]) as component,
            ClrClient.start(dump, runtime, component) as client,
        ):
            try:
                found = client.inspect(progress=progress)
            except BridgeError as err:
                if err.exit_status is None or err.exit_status >= 0:
                    raise
                # A DAC does not expect that memory is missing: any reader would crash like this.
                return VerifyReport(name, runtime.version, {}, (str(err),))
    return VerifyReport(name, runtime.version, found.counts, found.problems)
