"""A dump file that appears under its name only when it is whole."""

from __future__ import annotations

import errno
import importlib
import os
import secrets
import shutil
from contextlib import suppress
from ctypes import byref, c_uint8, c_void_p, sizeof
from types import TracebackType
from typing import Any

from ...errors import NativeCallError, OutputError
from . import fileapi, win32

_SHARING = fileapi.FILE_SHARE_READ | fileapi.FILE_SHARE_DELETE
# Full access for the owner, the system and administrators; nothing is inherited from the folder.
# https://learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format
_OWNER_ONLY = "D:P(A;;FA;;;OW)(A;;FA;;;SY)(A;;FA;;;BA)"
_HINTS = {
    errno.ENOENT: "create the folder first, or choose another with -o",
    errno.EACCES: "choose another folder with -o",
    errno.ENOSPC: "free some space, or choose another folder with -o",
}


class OutputFile:
    """A file under another name, which the system deletes with its handle, until `commit()`."""

    def __init__(self, path: str, *, overwrite: bool = False) -> None:
        """Open a new file for `path`, open to its owner and administrators alone.

        Raises:
            OutputError: the name is taken, or the folder missing or not writable.
        """
        self.path = os.path.abspath(path)
        self.descriptor = -1
        self._overwrite = overwrite
        self._part = f"{self.path}.{secrets.token_hex(4)}.part"
        if os.path.isdir(self.path):
            raise OutputError(f"{path} is a folder", stage="output", path=self.path)
        if not overwrite and os.path.lexists(self.path):
            raise _exists(self.path)
        try:
            handle = _create(self._part)
        except NativeCallError as err:
            raise output_error(win32.os_error(err.code), self.path) from err
        self._handle = handle
        try:
            # However we end, the system then deletes the file.
            _delete_on_close(handle, True)
            self.descriptor = _msvcrt().open_osfhandle(handle, os.O_RDWR)
        except BaseException:
            win32.CloseHandle(handle)
            with suppress(OSError):
                os.unlink(self._part)
            raise

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def put(self, offset: int, data: memoryview) -> None:
        """Write all of `data`.

        Raises:
            OSError: the disk is full, or failed.
        """
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        while data:
            data = data[os.write(self.descriptor, data) :]

    def commit(self) -> int:
        """Bring the bytes to the disk and give the file its name; returns its size there (bytes).

        Raises:
            OutputError: the name was taken meanwhile, or the disk failed.
        """
        try:
            os.fsync(self.descriptor)
            _delete_on_close(self._handle, False)
            try:
                # os.rename() replaces nothing on Windows.
                (os.replace if self._overwrite else os.rename)(self._part, self.path)
            except BaseException:
                _delete_on_close(self._handle, True)
                raise
        except FileExistsError:
            raise _exists(self.path) from None
        except OSError as err:
            raise output_error(err, self.path) from err
        info = fileapi.FILE_STANDARD_INFO()
        fileapi.GetFileInformationByHandleEx(
            self._handle, fileapi.FILE_STANDARD_INFO_CLASS, byref(info), sizeof(info)
        )
        return int(info.AllocationSize)

    def close(self) -> None:
        """Close the file; one that was not committed is gone."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def free_space(path: str) -> int:
    """Bytes that may still be written to the disk of the folder that `path` is in.

    Raises:
        OutputError: there is no such folder.
    """
    try:
        return shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    except OSError as err:
        raise output_error(err, path) from err


def output_error(err: OSError, path: str) -> OutputError:
    """What an OSError of writing `path` means to a user."""
    reason = err.strerror or str(err)
    return OutputError(
        f"cannot write {path}: {reason}",
        stage="output",
        path=path,
        hint=_HINTS.get(err.errno or 0, ""),
    )


def _create(path: str) -> int:
    descriptor = c_void_p()
    fileapi.ConvertStringSecurityDescriptor(
        _OWNER_ONLY, fileapi.SDDL_REVISION_1, byref(descriptor), None
    )
    try:
        attributes = fileapi.SECURITY_ATTRIBUTES(
            sizeof(fileapi.SECURITY_ATTRIBUTES), descriptor, False
        )
        return int(
            fileapi.CreateFileW(
                path,
                fileapi.GENERIC_READ | fileapi.GENERIC_WRITE | fileapi.DELETE,
                _SHARING,
                byref(attributes),
                fileapi.CREATE_NEW,
                fileapi.FILE_ATTRIBUTE_NORMAL,
                None,
            )
        )
    finally:
        win32.LocalFree(descriptor)


def _delete_on_close(handle: int, delete: bool) -> None:
    value = c_uint8(delete)
    fileapi.SetFileInformationByHandle(
        handle, fileapi.FILE_DISPOSITION_INFO_CLASS, byref(value), sizeof(value)
    )


def _exists(path: str) -> OutputError:
    return OutputError(
        f"{path} exists already", stage="output", path=path, hint="use --overwrite to replace it"
    )


def _msvcrt() -> Any:
    """The module that only Python for Windows has."""
    return importlib.import_module("msvcrt")
