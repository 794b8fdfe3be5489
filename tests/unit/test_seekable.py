"""Seekable zstd: what we pack, others unpack; what is damaged, is said so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidumper.dumpfile import open_bytes
from minidumper.errors import DumpFormatError
from minidumper.formats.seekable import FRAME_SIZE, PackedFile, seek_table
from minidumper.images.sequential import PackedOutput
from minidumper.platforms import backend
from minidumper.unpacking import unpack

CONTENT = b"".join(bytes([i % 251]) * 4096 for i in range(1500))
"""Three frames, the last of which is cut; neighbouring pages differ."""
HOLE = 6 * FRAME_SIZE


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """CONTENT in pieces, a hole, and a last page."""
    path = tmp_path / "x.zst"
    with backend().output(str(path), overwrite=False) as file, PackedOutput(file, 1) as output:
        for at in range(0, len(CONTENT), 70_000):
            output.put(at, memoryview(CONTENT[at : at + 70_000]))
        output.put(HOLE, memoryview(b"end!" * 1024))
        output.commit()
    return path


def whole() -> bytes:
    return CONTENT.ljust(HOLE, b"\0") + b"end!" * 1024


def opened(path: Path) -> PackedFile:
    file = open_bytes(path)
    assert isinstance(file, PackedFile)
    return file


def test_any_part_can_be_read(packed: Path) -> None:
    with opened(packed) as file:
        assert len(file.frames) == 7
        for at in (0, 5, FRAME_SIZE - 2, len(CONTENT) - 1, HOLE + 8):
            file.seek(at)
            assert file.read(FRAME_SIZE + 4) == whole()[at : at + FRAME_SIZE + 4]
        file.seek(-8, 2)
        assert file.read() == b"end!end!"


@pytest.mark.gate("zstd")
def test_zstd_itself_unpacks_it(packed: Path) -> None:
    done = subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True)
    assert done.stdout == whole()


@pytest.mark.gate("linux")
def test_unpacked_it_has_its_hole(packed: Path) -> None:
    path = Path(unpack(packed))
    assert path == packed.with_suffix("")
    assert path.read_bytes() == whole()
    assert path.stat().st_blocks * 512 < len(CONTENT) + 200_000 < HOLE


def test_any_zstd_is_unpacked_but_not_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(CONTENT))
    with pytest.raises(DumpFormatError, match="without a table") as failed:
        opened(path)
    assert "minidumper unpack" in failed.value.hint
    assert Path(unpack(path)).read_bytes() == CONTENT


def test_a_cut_file_is_not_unpacked(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:100])
    with pytest.raises(DumpFormatError, match="cut"):
        unpack(packed)
    assert [path.name for path in packed.parent.iterdir()] == ["x.zst"]


def read_all(path: Path) -> Iterator[bytes]:
    with opened(path) as file:
        while data := file.read(1 << 20):
            yield data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(damage=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_table_never_surprises(packed: Path, damage: list[tuple[int, int]]) -> None:
    data = bytearray(packed.read_bytes())
    for back, value in damage:
        data[-back] = value
    path = packed.with_name("damaged")
    path.write_bytes(data)
    with suppress(DumpFormatError):
        assert b"".join(read_all(path)) == whole()


def test_a_damaged_frame_is_said_so(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[40] ^= 0xFF
    packed.write_bytes(data)
    with pytest.raises(DumpFormatError, match="damaged"):
        list(read_all(packed))
    with pytest.raises(DumpFormatError, match="damaged"):
        unpack(packed)


def test_the_table_is_that_of_the_format() -> None:
    """As the specification has it: a skippable frame, entries, a footer."""
    assert seek_table([(10, 100), (20, 200)]).hex() == (
        "5e2a4d18190000000a0000006400000014000000c80000000200000000b1ea928f"
    )


def test_a_frame_that_claims_a_terabyte_is_not_believed(packed: Path) -> None:
    """RFC 8878, 3.1.1.1: a descriptor of 0xE0 says that eight bytes of content size follow."""
    data = bytearray(packed.read_bytes())
    data[4] |= 0xE0
    data[5:13] = (1 << 40).to_bytes(8, "little")
    packed.write_bytes(data)
    with open_bytes(packed) as file, pytest.raises(DumpFormatError):
        file.read(10)
