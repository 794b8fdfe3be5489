"""From the C callback of MiniDumpWriteDump to methods of a Python object."""

from __future__ import annotations

from ctypes import c_uint16
from typing import Any

from .callbacks import (
    MINIDUMP_CALLBACK_INFORMATION,
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_ROUTINE,
)
from .constants import MINIDUMP_CALLBACK_TYPE as Type

E_FAIL = -0x7FFF_BFFB
"""HRESULT 0x80004005 as the signed number that it is (winerror.h)."""


class CallbackHandler:
    """Answers every call as if there were no callback; override what you want to decide.

    A method is given the call's MINIDUMP_CALLBACK_INPUT and the MINIDUMP_CALLBACK_OUTPUT to be
    filled, and returns the BOOL of the C callback. Both structures are valid during the call only.
    What each type means: https://learn.microsoft.com/windows/win32/api/minidumpapiset/ne-minidumpapiset-minidump_callback_type
    """

    def handle(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Pass the call to the method of its type; what is newer than all of them is refused."""
        name = _METHODS.get(call.CallbackType)
        return getattr(self, name)(call, answer) if name else False

    def module(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """`call.Module` was read; `answer.ModuleWriteFlags` cut it down, 0 leaves it out.

        False does so too by its page, but with full memory dbghelp 10.0.29507 then fails (E_ABORT).
        """
        return True

    def thread(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """`call.Thread` was read; `answer.ThreadWriteFlags` cut it down, 0 leaves it out.

        False does so too by its page, but with full memory dbghelp 10.0.29507 then fails (E_ABORT).
        """
        return True

    def thread_ex(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """As `thread`, for `call.ThreadEx`."""
        return True

    def include_thread(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Whether to read the thread `call.IncludeThread.ThreadId`."""
        return True

    def include_module(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Whether to read the module at `call.IncludeModule.BaseOfImage`."""
        return True

    def memory(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Add `answer.MemoryBase`, `MemorySize` and be asked again; False ends it.

        Never called with MiniDumpWithFullMemory.
        """
        return False

    def cancel(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """`answer.Cancel` ends the dump, `answer.CheckCancel` has this asked again.

        Asked for every block, which is how an error in another method ends the dump early.
        """
        answer.CheckCancel = True
        answer.Cancel = False
        return True

    def write_kernel_minidump(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Whether to write a kernel minidump too, to `answer.Handle`."""
        return False

    def kernel_minidump_status(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """`call.Status` tells how the kernel minidump went."""
        return True

    def remove_memory(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Leave out `answer.MemoryBase`, `MemorySize` and be asked again; False ends it.

        Never called with MiniDumpWithFullMemory.
        """
        return False

    def include_vm_region(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Cut `answer.VmRegion` down to a piece, or to RegionSize 0, and set `answer.Continue`.

        Called with MiniDumpWithFullMemory alone, twice for each region and from the end of a
        piece again; False, or Continue left unset, includes all that is left.
        """
        return False

    def io_start(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """True with `answer.Status` S_FALSE takes over the writing of the file."""
        return False

    def io_write_all(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Write `call.Io` (Offset, Buffer, BufferBytes); True with `answer.Status` S_OK if done."""
        return False

    def io_finish(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """All is written; True with `answer.Status` S_OK if that holds."""
        return False

    def read_memory_failure(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """`call.ReadMemoryFailure` happened; True with `answer.Status` S_OK leaves that out."""
        return False

    def secondary_flags(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Set `answer.SecondaryFlags` from MINIDUMP_SECONDARY_FLAGS and return True."""
        return False

    def is_process_snapshot(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """True with `answer.Status` S_FALSE: the process handle is one of PssCaptureSnapshot."""
        return False

    def vm_start(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """True with `answer.Status` S_FALSE asks for the three calls below."""
        return False

    def vm_query(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Give the region at `call.VmQuery.Offset` in `answer.VmQueryResult`, VmQueryStatus."""
        return False

    def vm_pre_read(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Fill `call.VmPreRead.Buffer` instead; `answer.VmReadStatus`, VmReadBytesCompleted."""
        return False

    def vm_post_read(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        """Change what was read into `call.VmPostRead.Buffer`; answered as `vm_pre_read`."""
        return False

    def compressed_memory_stream_start(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """Set `answer.CompressedMemoryStreamStart` and return True to steer the compression."""
        return False

    def compressed_memory_stream_finish(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        """`call.CompressedMemoryStreamFinish` tells what the compression has reached."""
        return False


_METHODS: dict[int, str] = {
    Type.ModuleCallback: "module",
    Type.ThreadCallback: "thread",
    Type.ThreadExCallback: "thread_ex",
    Type.IncludeThreadCallback: "include_thread",
    Type.IncludeModuleCallback: "include_module",
    Type.MemoryCallback: "memory",
    Type.CancelCallback: "cancel",
    Type.WriteKernelMinidumpCallback: "write_kernel_minidump",
    Type.KernelMinidumpStatusCallback: "kernel_minidump_status",
    Type.RemoveMemoryCallback: "remove_memory",
    Type.IncludeVmRegionCallback: "include_vm_region",
    Type.IoStartCallback: "io_start",
    Type.IoWriteAllCallback: "io_write_all",
    Type.IoFinishCallback: "io_finish",
    Type.ReadMemoryFailureCallback: "read_memory_failure",
    Type.SecondaryFlagsCallback: "secondary_flags",
    Type.IsProcessSnapshotCallback: "is_process_snapshot",
    Type.VmStartCallback: "vm_start",
    Type.VmQueryCallback: "vm_query",
    Type.VmPreReadCallback: "vm_pre_read",
    Type.VmPostReadCallback: "vm_post_read",
    Type.CompressedMemoryStreamStartCallback: "compressed_memory_stream_start",
    Type.CompressedMemoryStreamFinishCallback: "compressed_memory_stream_finish",
}


class MiniDumpCallback:
    """The CallbackParam of one MiniDumpWriteDump, over the handler that answers.

    Pass `information`, keep this object until the function has returned, then call `check()`:
    no exception gets into dbghelp. The first one of the handler is kept, ends the dump as early as
    its callbacks can, and is raised by `check()`; so is one of Ctrl+C.
    """

    def __init__(self, handler: CallbackHandler) -> None:
        self._handler = handler
        self._error: BaseException | None = None
        self._routine = MINIDUMP_CALLBACK_ROUTINE(self._call)
        self.information = MINIDUMP_CALLBACK_INFORMATION(self._routine, None)

    def check(self) -> None:
        """Raise what the handler raised, if it did."""
        if self._error is not None:
            raise self._error

    def _call(self, _param: int | None, call: Any, answer: Any) -> int:
        if self._error is None:
            try:
                return int(self._handler.handle(call.contents, answer.contents))
            except BaseException as err:
                self._error = err
        return _stop(call.contents.CallbackType, answer.contents)


def _stop(kind: int, answer: MINIDUMP_CALLBACK_OUTPUT) -> int:
    """The answer that makes the rest of the dump as short as can be."""
    if kind == Type.CancelCallback:
        answer.CheckCancel = answer.Cancel = True
        return True
    if kind == Type.IncludeVmRegionCallback:
        # Continue=FALSE would write all that is left of the process.
        answer.VmRegion.RegionSize = 0
        answer.Continue = True
        return True
    if kind in (Type.IoWriteAllCallback, Type.IoFinishCallback, Type.ReadMemoryFailureCallback):
        answer.Status = E_FAIL
    return False


def wide_string(address: int | None) -> str:
    """The zero-terminated UTF-16 text at an address of this process; "" for NULL."""
    if not address:
        return ""
    size = 0
    while c_uint16.from_address(address + size).value:
        size += 2
    return bytes((c_uint16 * (size // 2)).from_address(address)).decode("utf-16-le", "replace")
