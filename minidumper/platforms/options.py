"""What a caller may want of a dump beside its memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from ..dbghelp import CallbackHandler
from ..errors import UsageError
from ..formats.minidump import ExceptionInfo


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """How the dumps of a process are written; all but the comment is of Windows' minidumps alone.

    `user_streams` are bytes by stream type. `callback` sees what dbghelp asks and may change each
    decision but those on the writing of the file: what it leaves out stays out, and a dump that it
    ends is an error. `writer` is "dbghelp" (also where it is empty), or "native" for us, who have
    no use for a callback. `dbghelp` is the full path of a dbghelp.dll, "" for the system's.
    """

    comment: str = ""
    user_streams: Mapping[int, bytes] = field(default_factory=dict)
    exception: ExceptionInfo | None = None
    callback: CallbackHandler | None = None
    writer: str = ""
    dbghelp: str = ""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: there is no such writer, or it asks no callback.
        """
        if self.writer not in ("", "dbghelp", "native"):
            raise UsageError(f"there is no writer {self.writer}", hint="choose dbghelp or native")
        if self.callback and self.writer == "native":
            raise UsageError("the native writer asks no callback", hint="leave one of them out")

    def given(self) -> list[str]:
        """The names of those that are not at their default."""
        return [item.name for item in fields(self) if getattr(self, item.name)]
