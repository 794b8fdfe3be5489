"""The privilege to open processes of other users, which administrators hold switched off."""

from __future__ import annotations

from ctypes import addressof, byref, c_void_p
from functools import cache

from ...errors import NativeCallError
from . import win32


@cache
def enable_debug_privilege() -> bool:
    """Switch SeDebugPrivilege on for this process; returns whether we have it.

    https://learn.microsoft.com/windows/win32/secauthz/privilege-constants
    """
    token = c_void_p()
    wanted = win32.TOKEN_PRIVILEGES(PrivilegeCount=1, Attributes=win32.SE_PRIVILEGE_ENABLED)
    try:
        win32.OpenProcessToken(
            win32.GetCurrentProcess(),
            win32.TOKEN_ADJUST_PRIVILEGES | win32.TOKEN_QUERY,
            byref(token),
        )
    except NativeCallError:
        return False
    try:
        luid = addressof(wanted) + win32.TOKEN_PRIVILEGES.LuidLow.offset
        win32.LookupPrivilegeValueW(None, "SeDebugPrivilege", luid)
        win32.AdjustTokenPrivileges(token, False, byref(wanted), 0, None, None)
        # It succeeds and says so where the token does not have the privilege.
        return win32.last_error() != win32.ERROR_NOT_ALL_ASSIGNED
    except NativeCallError:
        return False
    finally:
        win32.CloseHandle(token)
