"""A process of Windows that stands, for the tests that dump it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minidumper.platforms.windows.process import WindowsProcess
from tests.support.targets import Running

from .programs import running


@pytest.fixture(scope="module")
def program() -> Iterator[Running]:
    with running() as program:
        yield program
        assert program.alive()


@pytest.fixture
def target(program: Running) -> Iterator[WindowsProcess]:
    with WindowsProcess(program.process.pid) as target:
        yield target
