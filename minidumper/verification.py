"""Reopen a dump and prove that its readers find all they need."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .clr.answers import MissingRead
from .clr.client import ClrClient, Progress
from .clr.dac import find_dac
from .clr.runtime import find_runtime
from .dumpfile import DumpFile, open_dump
from .errors import BridgeError, UsageError
from .plan import DumpMode


class MissingBytes(NamedTuple):
    """Bytes that a dump lacks: which SOS command asked first, and why they should be there.

    `reason` names what a heap dump would have kept them for, or the mapped file they belong to;
    "" where neither is known.
    """

    address: int
    size: int
    command: str
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found in a dump, and what is wrong with it."""

    path: str
    runtime: str
    """Version of the runtime in the dump; "" where there is none."""
    counts: dict[str, int]
    problems: tuple[str, ...]
    """A line for each thing that is wrong, missing reads among them."""
    missing: tuple[MissingBytes, ...] = ()
    """What SOS's commands would read and the file lacks."""

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {
            "path": self.path,
            "runtime": self.runtime,
            "counts": self.counts,
            "problems": list(self.problems),
            "missing": [item._asdict() for item in self.missing],
        }


def verify(
    path: str | os.PathLike[str],
    *,
    dac: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Replay what SOS's commands read of a dump, from the file alone.

    `progress` is told the command, how much of it is done, and how much there is (0: unknown).

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
                missing = list(_explained(found.missing, dump, client))
            except BridgeError as err:
                if err.exit_status is None or err.exit_status >= 0:
                    raise
                # A DAC does not expect that memory is missing: any reader would crash like this.
                return VerifyReport(name, runtime.version, {}, (str(err),))
    problems = (*_lines(missing), *found.problems)
    return VerifyReport(name, runtime.version, found.counts, problems, tuple(missing))


def _explained(
    reads: Sequence[MissingRead], dump: DumpFile, client: ClrClient
) -> Iterator[MissingBytes]:
    """Reads with what their bytes would have been kept for, by the CLR side's word."""
    if not reads:
        return
    wanted = client.collect(dump.threads()).ranges
    starts = [item.start for item in wanted]
    images = dump.images()
    bases = [image.base for image in images]
    for address, size, command in reads:
        index = bisect_right(starts, address) - 1
        reason = ""
        if index >= 0 and address < wanted[index].end:
            reason = " ".join(flag.name or "" for flag in wanted[index].reasons)
        else:
            at = bisect_right(bases, address) - 1
            if at >= 0 and address < images[at].end:
                reason = images[at].path
        yield MissingBytes(address, size, command, reason)


def _reads(count: int) -> str:
    return "a read finds nothing" if count == 1 else f"{count:,} reads find nothing, the first"


def _lines(missing: Sequence[MissingBytes]) -> Iterator[str]:
    """A line for each command and reason."""
    groups: dict[tuple[str, str], list[MissingBytes]] = {}
    for item in missing:
        groups.setdefault((item.command, item.reason), []).append(item)
    for (command, reason), items in groups.items():
        yield (
            f"{command}: {_reads(len(items))} at 0x{items[0].address:x}"
            + (f" ({reason})" if reason else "")
        )
