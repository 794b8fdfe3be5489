"""The gates between us and a process of Windows, in order."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import BitnessMismatchError, TargetError, TargetNotFoundError
from ..gates import Gate, State, gate
from . import toolhelp
from .debugging import is_debugged
from .privilege import enable_debug_privilege
from .process import WindowsProcess

_ADMINISTRATOR = {
    "shell": "run minidumper in an administrator's command prompt",
    "docker": "docker exec --user ContainerAdministrator CONTAINER minidumper …",
    "kubernetes": "securityContext: {windowsOptions: {runAsUserName: ContainerAdministrator}}",
}


def own_gates() -> Iterator[Gate]:
    """The gates that are the same for every process."""
    capable = enable_debug_privilege()
    text = "SeDebugPrivilege is on" if capable else "without SeDebugPrivilege: own processes only"
    yield gate("privilege", True if capable else None, text, _ADMINISTRATOR)


def process_gates(pid: int) -> Iterator[Gate]:
    """The gates to one process; it is opened, and not stopped."""
    name = next((name for other, name in toolhelp.processes() if other == pid), "")
    fixes = dict.fromkeys(_ADMINISTRATOR, "minidumper ps lists those that can be seen")
    exists = gate("exists", bool(name), f"process {pid} ({name or 'there is none'})", fixes)
    yield exists
    if exists.state is State.FAILED:
        return
    yield from own_gates()
    try:
        with WindowsProcess(pid) as process:
            yield gate("bitness", True, "as many bits as this Python")
            yield gate("access", True, "it can be opened for reading")
            held = is_debugged(process.handle)
            end = dict.fromkeys(_ADMINISTRATOR, "end the debugger; the process may end with it")
            text = "a debugger holds it" if held else "no debugger holds it"
            yield gate("not traced", not held, text, end)
    except BitnessMismatchError as err:
        yield gate("bitness", False, str(err), dict.fromkeys(_ADMINISTRATOR, err.hint))
    except TargetNotFoundError as err:
        yield gate("exists", False, str(err), fixes)
    except TargetError as err:
        yield gate("access", False, str(err), _ADMINISTRATOR)
