"""A store of its own for each test, and what fills it."""

from __future__ import annotations

import pytest

from tests.store.builder import Builder
from voxnb.store.database import Database


@pytest.fixture
def db(tmp_path):
    store = Database(tmp_path / "store.db")
    yield store
    store.close()


@pytest.fixture
def build(db):
    return Builder(db)
