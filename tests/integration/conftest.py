"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import wine


@pytest.fixture(scope="session")
def wine_session() -> Iterator[None]:
    """Wine that stays up for all tests."""
    with wine.session():
        yield
