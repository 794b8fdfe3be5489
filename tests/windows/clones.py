"""Takes the place of the process snapshots that Wine lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from minidumper.platforms.windows import snapshotapi, win32

_GetProcessId = win32.Function("kernel32", "GetProcessId", win32.DWORD, win32.HANDLE)


@contextmanager
def clones() -> Iterator[None]:
    """Have the process itself be its snapshot and its clone: right as long as it idles."""

    def capture(process: int, flags: int, contexts: int, snapshot: Any) -> None:
        access = win32.PROCESS_QUERY_INFORMATION | win32.PROCESS_VM_READ | win32.SYNCHRONIZE
        snapshot._obj.value = win32.OpenProcess(access, False, _GetProcessId(process))

    def query(snapshot: int, kind: int, buffer: Any, size: int) -> None:
        buffer._obj.VaCloneHandle = snapshot

    def free(process: int, snapshot: Any) -> None:
        win32.CloseHandle(snapshot)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(snapshotapi.PssCaptureSnapshot), "exists", True)
        patch.setitem(vars(snapshotapi.PssCaptureSnapshot), "_call", capture)
        patch.setitem(vars(snapshotapi.PssQuerySnapshot), "_call", query)
        patch.setitem(vars(snapshotapi.PssFreeSnapshot), "_call", free)
        yield
