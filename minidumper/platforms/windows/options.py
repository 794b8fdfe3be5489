"""What a caller may want of a minidump beyond the plan, and how dbghelp is told of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from ctypes import POINTER, c_void_p, cast, pointer
from dataclasses import dataclass, field

from ...dbghelp import (
    CONTEXT,
    EXCEPTION_MAXIMUM_PARAMETERS,
    EXCEPTION_POINTERS,
    EXCEPTION_RECORD,
    MINIDUMP_EXCEPTION_INFORMATION,
    MINIDUMP_STREAM_TYPE,
    MINIDUMP_USER_STREAM,
    MINIDUMP_USER_STREAM_INFORMATION,
    CallbackHandler,
)
from ...formats.minidump import ExceptionInfo
from . import win32


@dataclass(frozen=True, slots=True)
class MinidumpOptions:
    """How the minidumps of a process are written.

    `writer` is "dbghelp", or "native" for us; `dbghelp` is the full path of a dbghelp.dll, "" for
    the system's. `user_streams` are bytes by stream type. `callback` sees what dbghelp asks and may
    change each decision but those on the writing of the file: what it leaves out stays out, and a
    dump that it ends is an error. The native writer has no use for it.
    """

    writer: str = "dbghelp"
    dbghelp: str = ""
    comment: str = ""
    user_streams: Mapping[int, bytes] = field(default_factory=dict)
    exception: ExceptionInfo | None = None
    callback: CallbackHandler | None = None

    def streams(self) -> Iterator[tuple[int, bytes]]:
        """Type and bytes of the streams that dbghelp does not make by itself."""
        if self.comment:
            text = self.comment.encode("utf-16-le", "surrogatepass") + b"\0\0"
            yield MINIDUMP_STREAM_TYPE.CommentStreamW, text
        yield from self.user_streams.items()


class StreamArguments:
    """Streams as MiniDumpWriteDump takes them; keep this object until it has returned."""

    def __init__(self, streams: Sequence[tuple[int, bytes]]) -> None:
        self._contents = [ctypes.create_string_buffer(data, len(data)) for _, data in streams]
        rows = [
            MINIDUMP_USER_STREAM(kind, len(content), cast(content, c_void_p).value)
            for (kind, _), content in zip(streams, self._contents, strict=True)
        ]
        self._array = (MINIDUMP_USER_STREAM * len(rows))(*rows)
        self.information = MINIDUMP_USER_STREAM_INFORMATION(
            len(streams), cast(self._array, POINTER(MINIDUMP_USER_STREAM))
        )


class ExceptionArguments:
    """An exception as MiniDumpWriteDump takes it; keep this object until it has returned."""

    def __init__(self, exception: ExceptionInfo) -> None:
        parameters = exception.parameters[:EXCEPTION_MAXIMUM_PARAMETERS]
        self._record = EXCEPTION_RECORD(
            exception.code,
            exception.flags,
            exception.record,
            exception.address,
            len(parameters),
            (c_void_p * EXCEPTION_MAXIMUM_PARAMETERS)(*parameters),
        )
        self._context, context = win32.aligned(CONTEXT)
        size = min(len(exception.context), ctypes.sizeof(context))
        ctypes.memmove(ctypes.addressof(context), exception.context, size)
        self._pointers = EXCEPTION_POINTERS(pointer(self._record), pointer(context))
        self.information = MINIDUMP_EXCEPTION_INFORMATION(
            exception.tid, pointer(self._pointers), False
        )
