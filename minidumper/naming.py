"""Names of dump files: the default, tokens, numbers for names that are taken. No I/O but a look."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from datetime import datetime

from .errors import UsageError
from .plan import DumpMode

TOKENS = ("PROCESSNAME", "PID", "YYMMDD", "HHMMSS", "EXCEPTIONCODE")
_TOKEN = re.compile("|".join(TOKENS))
_DEFAULT = "PROCESSNAME_YYMMDD_HHMMSS"
_EXTENSION = ".dmp"
PACKED_SUFFIX = ".zst"
STANDARD_OUTPUT = "-"


def output_paths(
    given: str | None,
    modes: Sequence[DumpMode],
    *,
    name: str,
    pid: int,
    when: datetime,
    exception_code: str = "00000000",
    repeated: bool = False,
    overwrite: bool = False,
    packed: bool = False,
    given_before: Collection[str] = (),
) -> list[str]:
    """A path for each mode of one stop.

    `given` is a file, a folder or None for the current folder; `repeated` says that more stops
    follow under the same `given`; `packed` gives the default name an ending of compressed files.
    Default names that are taken get _1, _2 …, and all that were `given_before`. "-" is standard
    output.

    Raises:
        UsageError: one file name for several dumps.
    """
    values = {
        "PROCESSNAME": _safe(name),
        "PID": str(pid),
        "YYMMDD": when.strftime("%y%m%d"),
        "HHMMSS": when.strftime("%H%M%S"),
        "EXCEPTIONCODE": exception_code,
    }
    folder, template = _split(given)
    default = _DEFAULT + _EXTENSION + (PACKED_SUFFIX if packed else "")
    fixed = template is not None and not _TOKEN.search(template)
    if fixed and (len(modes) > 1 or repeated):
        raise UsageError(
            f"{given} is one file for several dumps",
            hint="give a folder, or put tokens such as HHMMSS into the name",
        )
    paths: list[str] = []
    for mode in modes:
        suffix = mode.suffix if len(modes) > 1 else ""
        stem, extension = _parts(template or default)
        # In one pass: a process name may hold what looks like another token.
        stem, extension = (_TOKEN.sub(lambda m: values[m[0]], part) for part in (stem, extension))
        path = os.path.join(folder, f"{stem}{suffix}{extension}")
        may_number = not fixed and not (overwrite and template)
        if may_number or path in given_before:
            path = _untaken(path, [*paths, *given_before])
        paths.append(path)
    return paths


def _split(given: str | None) -> tuple[str, str | None]:
    """Folder and file name; the name is None where only a folder was given."""
    if given is None:
        return "", None
    if os.path.isdir(given) or given.endswith(os.sep):
        return given, None
    return os.path.dirname(given), os.path.basename(given)


def _parts(name: str) -> tuple[str, str]:
    """Stem and extension; that of a compressed file has two."""
    stem, extension = os.path.splitext(name)
    if extension == PACKED_SUFFIX:
        stem, inner = os.path.splitext(stem)
        extension = inner + extension
    return stem, extension


def _untaken(path: str, taken: Sequence[str]) -> str:
    stem, extension = _parts(path)
    number = 0
    candidate = path
    while candidate in taken or os.path.lexists(candidate):
        number += 1
        candidate = f"{stem}_{number}{extension}"
    return candidate


def _safe(name: str) -> str:
    """A process name as part of a file name."""
    return "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name) or "process"
