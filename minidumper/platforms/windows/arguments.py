"""How dbghelp is told what a caller wants of a minidump beyond the plan."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_void_p, cast, pointer

from ...dbghelp import (
    CONTEXT,
    EXCEPTION_MAXIMUM_PARAMETERS,
    EXCEPTION_POINTERS,
    EXCEPTION_RECORD,
    MINIDUMP_EXCEPTION_INFORMATION,
    MINIDUMP_STREAM_TYPE,
    MINIDUMP_USER_STREAM,
    MINIDUMP_USER_STREAM_INFORMATION,
)
from ...formats.minidump import ExceptionInfo
from ..options import DumpOptions
from . import win32


def streams(options: DumpOptions) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of the streams that dbghelp does not make by itself."""
    if options.comment:
        text = options.comment.encode("utf-16-le", "surrogatepass") + b"\0\0"
        yield MINIDUMP_STREAM_TYPE.CommentStreamW, text
    yield from options.user_streams.items()


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
