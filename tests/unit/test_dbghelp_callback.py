"""The callback adapter, called as dbghelp calls it: through the C function pointer."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import pytest

from minidumper.dbghelp import (
    E_FAIL,
    MINIDUMP_CALLBACK_INPUT,
    MINIDUMP_CALLBACK_OUTPUT,
    MINIDUMP_CALLBACK_TYPE,
    S_OK,
    CallbackHandler,
    MiniDumpCallback,
)

Type = MINIDUMP_CALLBACK_TYPE
TRUE_BY_DEFAULT = {
    Type.ModuleCallback,
    Type.ThreadCallback,
    Type.ThreadExCallback,
    Type.IncludeThreadCallback,
    Type.IncludeModuleCallback,
    Type.CancelCallback,
    Type.KernelMinidumpStatusCallback,
}


def call(callback: MiniDumpCallback, kind: int) -> tuple[int, MINIDUMP_CALLBACK_OUTPUT]:
    """What the C function returns, and the output; flags come in set, as dbghelp does it."""
    asked = MINIDUMP_CALLBACK_INPUT(CallbackType=kind)
    answer = MINIDUMP_CALLBACK_OUTPUT()
    answer.ModuleWriteFlags = 0x7F
    routine = callback.information.CallbackRoutine
    return routine(None, ctypes.byref(asked), ctypes.byref(answer)), answer


class Recorder(CallbackHandler):
    """Notes which method got which call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name in ("handle", "calls") or not callable(value):
            return value

        def note(call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
            self.calls.append((name, call.CallbackType))
            return bool(value(call, answer))

        return note


def test_each_type_has_its_method() -> None:
    recorder = Recorder()
    callback = MiniDumpCallback(recorder)
    for kind in Type:
        call(callback, kind)
    callback.check()
    names = [name for name, _ in recorder.calls]
    expected = [
        kind.name.removesuffix("Callback").replace("Minidump", "Mini_dump") for kind in Type
    ]
    assert [name.replace("_", "") for name in names] == [
        name.replace("_", "").lower() for name in expected
    ]
    assert [kind for _, kind in recorder.calls] == list(Type)


@pytest.mark.parametrize("kind", [*Type, 23, 1000])
def test_defaults_change_nothing(kind: int) -> None:
    result, answer = call(MiniDumpCallback(CallbackHandler()), kind)
    assert bool(result) == (kind in TRUE_BY_DEFAULT)
    if kind == Type.CancelCallback:
        assert (answer.CheckCancel, answer.Cancel) == (1, 0)
    else:
        assert answer.ModuleWriteFlags == 0x7F


class Regions(CallbackHandler):
    def include_vm_region(
        self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT
    ) -> bool:
        answer.VmRegion.RegionSize = 0x1000
        answer.Continue = True
        return True


def test_an_answer_reaches_c() -> None:
    callback = MiniDumpCallback(Regions())
    gc.collect()
    result, answer = call(callback, Type.IncludeVmRegionCallback)
    assert (result, answer.VmRegion.RegionSize, answer.Continue) == (1, 0x1000, 1)


class Failing(CallbackHandler):
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.asked = 0

    def handle(self, call: MINIDUMP_CALLBACK_INPUT, answer: MINIDUMP_CALLBACK_OUTPUT) -> bool:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("kind", list(Type))
def test_an_exception_stops_the_dump(error: BaseException, kind: Type) -> None:
    handler = Failing(error)
    callback = MiniDumpCallback(handler)
    result, answer = call(callback, kind)
    if kind == Type.CancelCallback:
        assert (result, answer.CheckCancel, answer.Cancel) == (1, 1, 1)
    elif kind == Type.IncludeVmRegionCallback:
        assert (result, answer.VmRegion.RegionSize, answer.Continue) == (1, 0, 1)
    else:
        assert result == 0
    if kind in (Type.IoWriteAllCallback, Type.IoFinishCallback, Type.ReadMemoryFailureCallback):
        assert answer.Status == E_FAIL != S_OK
    with pytest.raises(type(error)):
        callback.check()
    call(callback, Type.ModuleCallback)
    assert handler.asked == 1
