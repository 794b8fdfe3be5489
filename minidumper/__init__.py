"""Precise dumps of .NET processes: as small as possible, complete for every CLR reader.

    report = minidumper.write_dump(1234, "heap", "/dumps/")

Importing this package loads nothing; each name loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .dumpfile import open_dump
    from .errors import (
        AccessDeniedError,
        AlreadyTracedError,
        AmbiguousTargetError,
        BitnessMismatchError,
        BridgeError,
        CaptureError,
        ClrError,
        DacNotFoundError,
        DacUntrustedError,
        DumpFormatError,
        HostRuntimeNotFoundError,
        InsufficientMemoryError,
        MemoryFaultError,
        MiniDumperError,
        NativeCallError,
        NoClrInTargetError,
        OutputError,
        StopTimeoutError,
        TargetError,
        TargetExitedError,
        TargetNotFoundError,
        UnsupportedTargetError,
        UsageError,
        VerifyError,
    )
    from .monitor import Monitor
    from .plan import CaptureWarning, DumpMode, DumpPlan
    from .platforms import open_target
    from .ranges import Reason
    from .report import CaptureReport
    from .verification import VerifyReport, verify
    from .writer import DumpWriter, plan_dump, write_dump

__all__ = [
    "AccessDeniedError",
    "AlreadyTracedError",
    "AmbiguousTargetError",
    "BitnessMismatchError",
    "BridgeError",
    "CaptureError",
    "CaptureReport",
    "CaptureWarning",
    "ClrError",
    "DacNotFoundError",
    "DacUntrustedError",
    "DumpFormatError",
    "DumpMode",
    "DumpPlan",
    "DumpWriter",
    "HostRuntimeNotFoundError",
    "InsufficientMemoryError",
    "MemoryFaultError",
    "MiniDumperError",
    "Monitor",
    "NativeCallError",
    "NoClrInTargetError",
    "OutputError",
    "Reason",
    "StopTimeoutError",
    "TargetError",
    "TargetExitedError",
    "TargetNotFoundError",
    "UnsupportedTargetError",
    "UsageError",
    "VerifyError",
    "VerifyReport",
    "__version__",
    "open_dump",
    "open_target",
    "plan_dump",
    "verify",
    "write_dump",
]

_MODULES = {
    "CaptureReport": "report",
    "CaptureWarning": "plan",
    "DumpMode": "plan",
    "DumpPlan": "plan",
    "DumpWriter": "writer",
    "Monitor": "monitor",
    "Reason": "ranges",
    "VerifyReport": "verification",
    "open_dump": "dumpfile",
    "open_target": "platforms",
    "plan_dump": "writer",
    "verify": "verification",
    "write_dump": "writer",
}
"""Where a public name lives; all others are in `errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES.get(name, 'errors')}", __name__)
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
