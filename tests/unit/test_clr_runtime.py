"""What kind of .NET an image is, by its exports; versions; on PE images made by hand."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import cast

import pytest

from minidumper.clr.runtime import Runtime, RuntimeKind, find_runtime, known_version
from minidumper.errors import MemoryFaultError
from minidumper.formats.peimage import lookup_export, read_pe
from minidumper.target import ModuleInfo, Target
from tests.support.pe import BASE, SIZE, headers

EXPORTS = 0x2000  # where headers() says that the directory lies


def image_with_exports(symbols: dict[str, int]) -> bytes:
    """An image whose names are those of `symbols`, in order, each at its offset."""
    image = headers().ljust(SIZE, b"\0")
    count = len(symbols)
    functions, names, ordinals, strings = 0x2400, 0x2500, 0x2600, 0x2700
    struct.pack_into("<20xIIIII", image, EXPORTS, count, count, functions, names, ordinals)
    for index, (name, offset) in enumerate(symbols.items()):
        ordinal = count - 1 - index  # the tables are in different orders
        struct.pack_into("<I", image, functions + 4 * ordinal, offset)
        struct.pack_into("<I", image, names + 4 * index, strings)
        struct.pack_into("<H", image, ordinals + 2 * index, ordinal)
        image[strings : strings + len(name)] = name.encode()
        strings += len(name) + 1
    return bytes(image)


def find(image: bytes, path: str, version: str = "") -> Runtime | None:
    def read(address: int, size: int) -> bytes:
        data = image[address - BASE : address - BASE + size]
        if address < BASE or len(data) != size:
            raise MemoryFaultError("nothing there", address=address, size=size)
        return data

    target = SimpleNamespace(
        memory=SimpleNamespace(read=read),
        modules=lambda: [
            ModuleInfo("C:\\gone.dll", 0x1000, 0x2000),
            ModuleInfo(path, BASE, BASE + SIZE, version=version),
        ],
    )
    return find_runtime(cast(Target, target))


def test_exports_are_found_by_name() -> None:
    image = image_with_exports({"Alpha": 0x1111, "Beta": 0x1222, "Betatron": 0x1333})

    def read(address: int, size: int) -> bytes:
        return image[address - BASE : address - BASE + size]

    parsed = read_pe(read, BASE)
    assert parsed
    found = {name: lookup_export(parsed, read, name) for name in ("Alpha", "Beta", "Bet", "Omega")}
    assert found == {"Alpha": BASE + 0x1111, "Beta": BASE + 0x1222, "Bet": None, "Omega": None}


@pytest.mark.parametrize(
    ("name", "kind", "dac"),
    [
        ("coreclr.dll", RuntimeKind.CORECLR, "mscordaccore.dll"),
        ("clr.dll", RuntimeKind.FRAMEWORK, "mscordacwks.dll"),
    ],
)
def test_a_runtime_of_its_own(name: str, kind: RuntimeKind, dac: str) -> None:
    found = find(image_with_exports({}), f"C:\\dotnet\\{name}", "10.0.1426.52326")
    assert found
    assert (found.kind, found.dac_name, found.name) == (kind, dac, name)
    assert (found.build_id, found.version) == ("5F0000019000", "10.0.14")


def test_a_single_file_tells_its_dac() -> None:
    image = bytearray(image_with_exports({"DotNetRuntimeInfo": 0x1000}))
    indexes = [struct.pack("<BII", 8, 0x5F000000 + i, 0x100 + i).ljust(24, b"\0") for i in range(3)]
    signature, version = b"DotNetRuntimeInfo\0", (8, 0, 424, 16909)
    info = struct.pack("<18s2xi24s24s24s4i", signature, 2, *indexes, *version)
    image[0x1000 : 0x1000 + len(info)] = info
    found = find(bytes(image), "C:\\app.exe")
    assert found
    assert found.kind is RuntimeKind.SINGLE_FILE
    assert (found.build_id, found.dac_build_id) == ("5F000000100", "5F000001101")
    assert found.version == "8.0.4"


def test_native_code_is_recognised() -> None:
    found = find(image_with_exports({"DotNetRuntimeDebugHeader": 0x1000}), "C:\\app.exe")
    assert found
    assert found.kind is RuntimeKind.NATIVE_AOT


def test_what_has_no_runtime() -> None:
    assert find(image_with_exports({"main": 0x1000}), "C:\\app.exe") is None


@pytest.mark.parametrize(
    ("stamped", "path", "version"),
    [
        ("10.0.1426.52326", "/x/libcoreclr.so", "10.0.14"),
        ("8.0.424.16909", "/x/libcoreclr.so", "8.0.4"),
        ("5.0.1722.21314", "/x/libcoreclr.so", "5.0.17"),
        ("11.0.26.10411", "/x/libcoreclr.so", "11.0.0"),
        ("4.700.22.11601", "/Microsoft.NETCore.App/3.1.23/libcoreclr.so", "3.1.23"),
        ("4.700.22.11601", "/app/libcoreclr.so", "3.1"),
        ("4.6.30411.01", "C:\\Microsoft.NETCore.App\\2.1.30\\coreclr.dll", "2.1.30"),
        (
            "4.8.9282.0",
            "C:\\Windows\\Microsoft.NET\\Framework64\\v4.0.30319\\clr.dll",
            "4.8.9282.0",
        ),
        ("", "/x/libcoreclr.so", ""),
    ],
)
def test_versions_that_people_know(stamped: str, path: str, version: str) -> None:
    assert known_version(stamped, path) == version
