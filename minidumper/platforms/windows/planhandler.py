"""The answers to dbghelp's callback that make it write a plan, and nothing else, into a sink."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from ctypes import c_ubyte

from ...dbghelp import (
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_TYPE,
    S_FALSE,
    S_OK,
    CallbackHandler,
)
from ...ranges import MemoryRange
from .sinks import Sink

_WRITING = {
    MINIDUMP_CALLBACK_TYPE.IoStartCallback,
    MINIDUMP_CALLBACK_TYPE.IoWriteAllCallback,
    MINIDUMP_CALLBACK_TYPE.IoFinishCallback,
}


class PlanHandler(CallbackHandler):
    """Hands out the ranges of a plan and takes the bytes of the file.

    `user` is a handler that sees the same calls and may change each decision.
    """

    def __init__(
        self,
        ranges: Sequence[MemoryRange],
        sink: Sink,
        progress: Callable[[int], None] | None = None,
        user: CallbackHandler | None = None,
        *,
        snapshot: bool = False,
    ) -> None:
        """`ranges` are page aligned, sorted and disjoint; dbghelp writes wrong ones otherwise.

        `snapshot` tells that it is given the handle of one (PssCaptureSnapshot).
        """
        self._snapshot = snapshot
        self._starts = [start for start, _ in ranges]
        self._ends = [end for _, end in ranges]
        self._sink = sink
        self._progress = progress
        self._user = user

    def handle(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Answer, then let the user's own handler change that, but for the writing itself."""
        answered = super().handle(call, answer)
        if self._user is None or call.CallbackType in _WRITING:
            return answered
        changed = self._user.handle(call, answer)
        # Only here does "no decision" differ from the answer that we have given.
        regions = call.CallbackType == MINIDUMP_CALLBACK_TYPE.IncludeVmRegionCallback
        return answered or changed if regions else changed

    def is_process_snapshot(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """What the handle is."""
        answer.Status = S_FALSE if self._snapshot else S_OK
        return self._snapshot

    def include_vm_region(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """The first piece of the plan in the region that is asked for, none where there is none.

        All regions are asked for twice, for sizes and for bytes, so the answer depends on the
        address alone.
        """
        region = answer.VmRegion
        start, end = region.BaseAddress, region.BaseAddress + region.RegionSize
        index = bisect_right(self._ends, start)
        if index < len(self._starts) and self._starts[index] < end:
            region.BaseAddress = max(start, self._starts[index])
            region.RegionSize = min(end, self._ends[index]) - region.BaseAddress
        else:
            region.RegionSize = 0
        answer.Continue = True
        return True

    def cancel(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Not asked for each block: a failing write ends the dump as well."""
        answer.CheckCancel = answer.Cancel = False
        return True

    def io_start(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """All writing is ours."""
        answer.Status = S_FALSE
        return True

    def io_write_all(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Bytes of the file."""
        io = call.Io
        data = (c_ubyte * io.BufferBytes).from_address(io.Buffer)
        self._sink.put(io.Offset, memoryview(data).cast("B"))
        if self._progress:
            self._progress(self._sink.size)
        answer.Status = S_OK
        return True

    def io_finish(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """The end of the file."""
        answer.Status = S_OK
        return True
