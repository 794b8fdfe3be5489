"""Pages of zeros are left out, and the file is the same for whoever reads it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from minidumper.images.sparse import SparseOutput
from minidumper.ranges import PAGE_SIZE

ZEROS = bytes(PAGE_SIZE)
BYTES = st.tuples(st.sampled_from([b"\0", b"x"]), st.integers(1, 2 * PAGE_SIZE))


class Recorder:
    """An output that keeps the pages of its file that something was put into."""

    path = ""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by its test
        self.descriptor = self.file.fileno()
        self.pages: set[int] = set()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def put(self, offset: int, data: memoryview) -> None:
        self.pages.update(range(offset // PAGE_SIZE, -(-(offset + len(data)) // PAGE_SIZE)))
        self.file.seek(offset)
        self.file.write(data)
        self.file.flush()

    def commit(self) -> int:
        return len(self.pages)


def put_all(parts: Sequence[bytes], recorder: Recorder) -> bytes:
    """The file in the end."""
    output = SparseOutput(recorder)
    for end, part in zip(accumulate(map(len, parts)), parts, strict=True):
        output.put(end - len(part), memoryview(part))
    assert output.commit() == len(recorder.pages)
    recorder.file.seek(0)
    return recorder.file.read()


@given(st.lists(BYTES.map(lambda row: row[0] * row[1]), min_size=1))
def test_the_bytes_are_the_same_and_no_page_is_put_for_zeros_alone(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    with Recorder() as recorder:
        assert put_all(parts, recorder) == whole
        pages = [whole[at : at + PAGE_SIZE] for at in range(0, len(whole), PAGE_SIZE)]
        assert recorder.pages == {n for n, page in enumerate(pages) if any(page)}


def test_what_was_skipped_is_skipped() -> None:
    with Recorder() as recorder:
        output = SparseOutput(recorder)
        output.put(0, memoryview(b"begin"))
        output.put(5 * PAGE_SIZE, memoryview(ZEROS + b"end"))
        output.commit()
        assert recorder.pages == {0, 6}
        recorder.file.seek(0)
        assert recorder.file.read() == b"begin".ljust(6 * PAGE_SIZE, b"\0") + b"end"
