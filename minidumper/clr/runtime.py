"""The .NET runtime in a target, found by its memory alone: a process and a dump serve alike."""

from __future__ import annotations

import enum
import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from ..errors import MemoryFaultError
from ..formats.elf import PT_LOAD
from ..formats.elfimage import ElfImage, ReadMemory, build_id, lookup_symbol, read_image
from ..formats.peimage import PeImage, lookup_export, read_pe
from ..ranges import PAGE_SIZE, page_floor
from ..target import ModuleInfo, Target


class RuntimeKind(enum.Enum):
    """How a program has its .NET."""

    CORECLR = "coreclr"
    SINGLE_FILE = "single file"
    FRAMEWORK = "framework"
    NATIVE_AOT = "native AOT"


_KINDS = {
    "libcoreclr.so": RuntimeKind.CORECLR,
    "coreclr.dll": RuntimeKind.CORECLR,
    "clr.dll": RuntimeKind.FRAMEWORK,
}
_PF_W = 2  # elf.h
_VERSION = re.compile(rb"@\(#\)Version (\d+\.\d+\.\d+\.\d+)")
"""What the build puts into every native library of .NET: eng/native/version, dotnet/runtime."""
_FOLDER_VERSION = re.compile(r"\d+\.\d+\.\d+.*")

# struct RuntimeInfo, src/coreclr/inc/runtimeinfo.h: a signature of 18 bytes, an int, three
# indexes of 24 bytes (runtime, DAC, DBI), from version 2 on four ints of the runtime's version.
_RUNTIME_INFO = struct.Struct("<18s2xi24s24s24s")
_RUNTIME_INFO_SIGNATURE = b"DotNetRuntimeInfo\0"
_RUNTIME_VERSION = struct.Struct("<4i")


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime's image, [base, end).

    `build_id` is that of ELF, or timestamp and size of PE as symbol servers have them;
    `dac_build_id` is the DAC's, which only a single file tells. `file_version` is the one that
    the build stamped ("10.0.1426.52326", "4.700.22.11601"), `version` the one that people know.
    """

    kind: RuntimeKind
    path: str
    base: int
    end: int
    build_id: str
    dac_build_id: str = ""
    file_version: str = ""
    version: str = ""
    is_elf: bool = True

    @property
    def name(self) -> str:
        """The file's name."""
        return _file_name(self.path)

    @property
    def dac_name(self) -> str:
        """The name of the DAC's file."""
        if self.is_elf:
            return "libmscordaccore.so"
        return "mscordacwks.dll" if self.kind is RuntimeKind.FRAMEWORK else "mscordaccore.dll"


class _Identity(NamedTuple):
    build_id: str = ""
    dac_build_id: str = ""
    file_version: str = ""


def find_runtime(target: Target) -> Runtime | None:
    """The target's runtime; None where it has none."""
    read = target.memory.read
    modules = target.modules()
    for module in modules:
        kind = _KINDS.get(_file_name(module.path).lower())
        if kind and (image := _image(read, module)):
            return _runtime(kind, module, image, _Identity())
    for module in modules:
        image = _image(read, module)
        with suppress(MemoryFaultError):
            if image and (info := _symbol(image, read, "DotNetRuntimeInfo")):
                identity = _identity(read, info, is_elf=isinstance(image, ElfImage))
                return _runtime(RuntimeKind.SINGLE_FILE, module, image, identity)
            if image and _symbol(image, read, "DotNetRuntimeDebugHeader"):
                return _runtime(RuntimeKind.NATIVE_AOT, module, image, _Identity())
    return None


def _runtime(
    kind: RuntimeKind, module: ModuleInfo, image: ElfImage | PeImage, identity: _Identity
) -> Runtime:
    own_id, stamped = "", module.version
    if isinstance(image, PeImage):
        own_id = image.build_id
    else:
        stamped = _stamped_version(image)
        with suppress(MemoryFaultError):
            own_id = build_id(image)
    file_version = identity.file_version or stamped
    return Runtime(
        kind=kind,
        path=module.path,
        base=module.base,
        end=module.end,
        build_id=identity.build_id or own_id,
        dac_build_id=identity.dac_build_id,
        file_version=file_version,
        version=known_version(file_version, module.path),
        is_elf=isinstance(image, ElfImage),
    )


def known_version(file_version: str, path: str) -> str:
    """The version that people know, "10.0.14" for "10.0.1426.52326"; "" where there is no sign.

    Before .NET 5 the stamp tells little (4.700.x is 3.1.y); then the folder's name decides.
    """
    numbers = [int(number) for number in file_version.split(".") if number.isdecimal()]
    if len(numbers) >= 3 and numbers[0] >= 5:
        return f"{numbers[0]}.{numbers[1]}.{numbers[2] // 100}"
    pure = PureWindowsPath(path) if "\\" in path else PurePosixPath(path)
    if _FOLDER_VERSION.fullmatch(pure.parent.name):
        return pure.parent.name
    return "3.1" if numbers[:2] == [4, 700] else file_version


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _image(read: ReadMemory, module: ModuleInfo) -> ElfImage | PeImage | None:
    try:
        return read_image(read, module.base) or read_pe(read, module.base)
    except MemoryFaultError:
        return None


def _symbol(image: ElfImage | PeImage, read: ReadMemory, name: str) -> int | None:
    if isinstance(image, PeImage):
        return lookup_export(image, read, name)
    return lookup_symbol(image, name)


def _identity(read: ReadMemory, address: int, *, is_elf: bool) -> _Identity:
    """What a single file's RuntimeInfo tells."""
    signature, version, *indexes = _RUNTIME_INFO.unpack(read(address, _RUNTIME_INFO.size))
    if signature != _RUNTIME_INFO_SIGNATURE:
        return _Identity()
    own, dac, _ = (_index(raw, is_elf=is_elf) for raw in indexes)
    numbers = ""
    if version >= 2:
        parts = _RUNTIME_VERSION.unpack(read(address + _RUNTIME_INFO.size, _RUNTIME_VERSION.size))
        numbers = ".".join(map(str, parts))
    return _Identity(own, dac, numbers)


def _index(raw: bytes, *, is_elf: bool) -> str:
    """A length, then the build id of ELF, or timestamp and size of PE."""
    content = raw[1 : 1 + raw[0]]
    if is_elf:
        return content.hex()
    timestamp, size = struct.unpack("<II", content[:8].ljust(8, b"\0"))
    return f"{timestamp:08X}{size:x}"


def _stamped_version(image: ElfImage) -> str:
    for header in image.headers:
        if header.type == PT_LOAD and header.flags & _PF_W:
            start = image.bias + header.vaddr
            for data in _readable(image, start, start + header.filesz):
                if found := stamped_version(data):
                    return found
    return ""


def stamped_version(data: bytes | mmap.mmap) -> str:
    """What the build stamped into a native library of .NET; "" where nothing is."""
    match = _VERSION.search(data)
    return match[1].decode() if match else ""


def _readable(image: ElfImage, start: int, end: int) -> Iterator[bytes]:
    """The bytes in one piece, else page by page without those that a dump lacks."""
    try:
        yield image.read(start, end - start)
    except MemoryFaultError:
        for page in range(page_floor(start), end, PAGE_SIZE):
            with suppress(MemoryFaultError):
                yield image.read(page, PAGE_SIZE)
