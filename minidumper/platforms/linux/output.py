"""A dump file that appears under its name only when it is whole."""

from __future__ import annotations

import errno
import os
import secrets
from types import TracebackType

from ...errors import OutputError
from . import libc


class OutputFile:
    """A file without a name until `commit()`: whatever happens before, nothing is left of it."""

    def __init__(self, path: str, *, overwrite: bool = False) -> None:
        """Open a new file for `path`, readable by its owner alone.

        Raises:
            OutputError: the name is taken, or the folder missing or not writable.
        """
        self.path = os.path.abspath(path)
        self._overwrite = overwrite
        self._part = ""
        folder = os.path.dirname(self.path)
        if os.path.isdir(self.path):
            raise OutputError(f"{path} is a folder", stage="output", path=self.path)
        if not overwrite and os.path.lexists(self.path):
            raise _exists(self.path)
        try:
            self.descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as err:
            # EISDIR, EOPNOTSUPP: a file system without O_TMPFILE (open(2)).
            if err.errno not in (errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL):
                raise output_error(err, self.path) from err
            self._open_named()

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
        while data:
            count = os.pwrite(self.descriptor, data, offset)
            data, offset = data[count:], offset + count

    def commit(self) -> int:
        """Bring the bytes to the disk and give the file its name; returns its blocks (bytes).

        Raises:
            OutputError: the name was taken meanwhile, or the disk failed.
        """
        try:
            os.fsync(self.descriptor)
            if self._part:
                self._name_part()
            elif self._overwrite:
                self._part = f"{self.path}.{secrets.token_hex(4)}.part"
                libc.link_descriptor(self.descriptor, self._part)
                os.replace(self._part, self.path)
                self._part = ""
            else:
                libc.link_descriptor(self.descriptor, self.path)
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            raise _exists(self.path) from None
        except OSError as err:
            raise output_error(err, self.path) from err
        return os.fstat(self.descriptor).st_blocks * 512  # st_blocks counts 512 bytes, stat(2)

    def close(self) -> None:
        """Close the file; one that was not committed is gone."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self._part:
            os.unlink(self._part)
            self._part = ""

    def _open_named(self) -> None:
        part = f"{self.path}.{secrets.token_hex(4)}.part"
        try:
            self.descriptor = os.open(
                part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as err:
            raise output_error(err, self.path) from err
        self._part = part

    def _name_part(self) -> None:
        if self._overwrite:
            os.replace(self._part, self.path)
        else:
            os.link(self._part, self.path)
            os.unlink(self._part)
        self._part = ""


def free_space(path: str) -> int:
    """Bytes that may still be written to the disk of the folder that `path` is in.

    Raises:
        OutputError: there is no such folder.
    """
    try:
        stat = os.statvfs(os.path.dirname(os.path.abspath(path)))
    except OSError as err:
        raise output_error(err, path) from err
    return stat.f_bavail * stat.f_frsize


def output_error(err: OSError, path: str) -> OutputError:
    """What an OSError of writing `path` means to a user."""
    hints = {
        errno.ENOENT: "create the folder first, or choose another with -o",
        errno.EACCES: "choose another folder with -o",
        errno.EROFS: "choose another folder with -o",
        errno.ENOSPC: "free some space, or choose another folder with -o",
        errno.EDQUOT: "free some space, or choose another folder with -o",
    }
    reason = os.strerror(err.errno) if err.errno else str(err)
    return OutputError(
        f"cannot write {path}: {reason}",
        stage="output",
        path=path,
        hint=hints.get(err.errno or 0, ""),
    )


def _exists(path: str) -> OutputError:
    return OutputError(
        f"{path} exists already", stage="output", path=path, hint="use --overwrite to replace it"
    )
