"""The data access component that fits a runtime: found, matched, and trusted."""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import (
    DacNotFoundError,
    DacUntrustedError,
    MemoryFaultError,
    NoClrInTargetError,
)
from ..formats.elfimage import build_id, file_image
from ..formats.peimage import read_pe
from .runtime import Runtime, RuntimeKind, known_version, stamped_version

_PROCESS_ROOT = re.compile(r"/proc/\d+/root(?=/)")
"""Another root folder; the link reads "/", and only the kernel can follow it: proc(5)."""


@dataclass(slots=True)
class Dac:
    """A DAC to load; the descriptor (None on Windows) stands for it where the path is closed."""

    path: Path
    descriptor: int | None = None

    @property
    def version(self) -> str:
        """The version of .NET that people know, which the file tells; "" where it does not."""
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return known_version(stamped_version(data), str(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def find_dac(
    runtime: Runtime,
    search: Sequence[Path] = (),
    root: Path = Path("/"),
    *,
    user: tuple[int, int] | None = None,
) -> Dac:
    """The DAC beside the runtime, else one of `search` (files or folders).

    `root` is the folder under which the target's own paths are found; `user` is whom the target
    runs as, who may own the file.

    Raises:
        NoClrInTargetError: this kind of runtime has no DAC.
        DacNotFoundError: none fits.
        DacUntrustedError: one fits, but others than its user could have changed it.
    """
    if runtime.kind is RuntimeKind.NATIVE_AOT:
        raise NoClrInTargetError(
            f"{runtime.path} is compiled to native code (NativeAOT), which has no managed heap "
            "that a debugger can read",
            hint="take a full dump (-ma)",
        )
    untrusted: DacUntrustedError | None = None
    for path, top in _candidates(runtime, search, root):
        if _fits(path, runtime):
            try:
                return _open_trusted(path, top, user)
            except DacUntrustedError as err:
                untrusted = untrusted or err
    if untrusted:
        raise untrusted
    raise _not_found(runtime)


def _candidates(
    runtime: Runtime, search: Sequence[Path], root: Path
) -> Iterator[tuple[Path, Path]]:
    """Files to try, each with the root folder of its name."""
    own = Path(runtime.path).with_name(runtime.dac_name)
    yield (own if root == Path(own.root) else root.joinpath(*own.parts[1:])), root
    for path in search:
        real, top = _located(path)
        yield (real / runtime.dac_name if real.is_dir() else real), top


def _located(path: Path) -> tuple[Path, Path]:
    """A path without links, and the root folder of its name, which can be a container's."""
    absolute = Path(os.path.abspath(path))
    inside = _PROCESS_ROOT.match(str(absolute))
    if inside:
        return absolute, Path(inside[0])
    real = absolute.resolve()
    return real, Path(real.anchor)


def _fits(path: Path, runtime: Runtime) -> bool:
    """Whether the runtime beside the file is the target's own, or the target named the file."""
    if not path.is_file():
        return False
    beside = path.parent / runtime.name
    if runtime.build_id and beside.is_file() and _file_id(beside) == runtime.build_id:
        return True
    return bool(runtime.dac_build_id) and _file_id(path) == runtime.dac_build_id


def _file_id(path: Path) -> str:
    """The build id of an ELF file, or timestamp and size of a PE file; "" where there is none."""
    with (
        path.open("rb") as file,
        suppress(MemoryFaultError, ValueError),  # an empty file cannot be mapped
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        image = file_image(data)
        if image:
            return build_id(image)

        def read(offset: int, size: int) -> bytes:
            if offset + size > len(data):
                raise MemoryFaultError("beyond the end of the file", address=offset, size=size)
            return data[offset : offset + size]

        pe = read_pe(read, 0)
        return pe.build_id if pe else ""
    return ""


def _open_trusted(path: Path, root: Path, user: tuple[int, int] | None) -> Dac:
    """The file, if nobody but root, us, the target's user and the owner of its root can change it.

    Raises:
        DacUntrustedError: somebody else can.
    """
    own_id = getattr(os, "geteuid", None)
    if own_id is None:  # Windows: who may write there is a matter of its access lists
        return Dac(path)
    trusted = {0, own_id(), root.stat().st_uid} | ({user[0]} if user else set())
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as err:
        raise _untrusted(path, f"it cannot be opened ({err.strerror})") from err
    dac = Dac(path, descriptor)
    try:
        _check(path, os.fstat(descriptor), trusted)
        for folder in path.parents:
            if folder == root:
                break
            _check(folder, folder.lstat(), trusted)
        _check(root, root.stat(), trusted)
    except BaseException:
        dac.close()
        raise
    return dac


def _check(path: Path, status: os.stat_result, trusted: set[int]) -> None:
    """A file or folder that only trusted users can change.

    Raises:
        DacUntrustedError: others can.
    """
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise _untrusted(path, "it is a symbolic link")
    if status.st_uid not in trusted:
        raise _untrusted(path, f"it belongs to user {status.st_uid}")
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return  # as in /tmp, nobody there can replace what belongs to another
    # A group with its owner's number is that user alone (useradd(8), USERGROUPS_ENAB).
    if mode & stat.S_IWGRP and status.st_gid not in {0, status.st_uid}:
        raise _untrusted(path, f"group {status.st_gid} can write there")
    if mode & stat.S_IWOTH:
        raise _untrusted(path, "every user can write there")


def _untrusted(path: Path, why: str) -> DacUntrustedError:
    return DacUntrustedError(
        f"{path} will not be trusted to load the DAC: {why}",
        hint=f"chmod go-w '{path}' if you know who put it there, or name another DAC with --dac",
    )


def _not_found(runtime: Runtime) -> DacNotFoundError:
    system = "linux" if runtime.is_elf else "win"
    version = runtime.version or "of its version"
    return DacNotFoundError(
        f"no DAC fits {runtime.path} (.NET {runtime.version or 'of unknown version'}, "
        f"build id {runtime.build_id or 'unknown'})",
        hint=f"take {runtime.dac_name} and {runtime.name} from the NuGet package "
        f"microsoft.netcore.app.runtime.{system}-x64 {version}, and give --dac FOLDER",
    )
