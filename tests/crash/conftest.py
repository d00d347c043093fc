"""One nursery for all tests of the session: importing takes longer than most children live."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.world import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks children that may be killed; see `nursery.py`."""
    made = Nursery()
    yield made
    made.close()
