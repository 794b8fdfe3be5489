"""PE images: headers made here by hand, and what hostile ones must not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidumper.errors import MemoryFaultError
from minidumper.formats.peimage import (
    EXPORT_DIRECTORY,
    SECTION_WRITABLE,
    PeImage,
    read_pe,
)
from minidumper.ranges import MemoryRange
from tests.support.pe import BASE, CODEVIEW, HEADER, SIZE, headers, memory


def parsed(page: bytearray) -> PeImage:
    image = read_pe(memory(page), BASE)
    assert image
    return image


@pytest.mark.parametrize("magic", [0x10B, 0x20B])
def test_an_image_of_each_width(magic: int) -> None:
    image = parsed(headers(magic=magic))
    assert (image.size, image.headers_size, image.checksum) == (SIZE, 0x400, 0xABCD)
    assert image.build_id == "5F0000019000"
    text, data = image.sections
    assert (text.name, text.start, text.end) == (".text", BASE + 0x1000, BASE + 0x2800)
    assert (text.flags & SECTION_WRITABLE, data.flags & SECTION_WRITABLE) == (0, SECTION_WRITABLE)
    assert image.directory(EXPORT_DIRECTORY) == MemoryRange(BASE + 0x2000, BASE + 0x2040)
    assert image.directory(99).size == 0


def test_the_codeview_record_is_found() -> None:
    read = memory(headers())
    start, end = parsed(headers()).codeview_range(read)
    assert read(start, end - start) == CODEVIEW


def test_what_is_no_image() -> None:
    page = headers()
    page[:2] = b"ZM"
    assert read_pe(memory(page), BASE) is None
    page = headers()
    page[HEADER] = 0
    assert read_pe(memory(page), BASE) is None
    assert read_pe(memory(headers(magic=0x107)), BASE) is None
    assert read_pe(memory(headers(sections=97)), BASE) is None


def test_headers_that_cannot_be_read() -> None:
    with pytest.raises(MemoryFaultError):
        read_pe(memory(headers()), BASE + SIZE)


@given(st.integers(0, 0x3FF), st.binary(min_size=1, max_size=64))
def test_damaged_headers_name_nothing_outside_the_image(at: int, damage: bytes) -> None:
    page = headers()
    page[at : at + len(damage)] = damage
    image = read_pe(memory(page), BASE)
    if image is None:
        return
    for start, end in [*image.directories, *((s.start, s.end) for s in image.sections)]:
        assert BASE <= start <= end <= BASE + image.size
