"""What every test of the media room gets: a clock that it moves by hand."""

from __future__ import annotations

import pytest

from voxnb.testing.clock import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock()
