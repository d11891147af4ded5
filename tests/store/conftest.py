"""Fixtures of the store's tests."""

import pytest

from mech_queue.store import Store
from tests.store.engine import Engine


@pytest.fixture
def engine(store: Store) -> Engine:
    """One application on an empty store, under a clock that only the test moves."""
    return Engine(store)
