"""Fixtures: a shop of one's own, and one with a worker that many tests share."""

from collections.abc import Iterator

import pytest

from tests.celery.support import Shop
from tests.support.valkey import ValkeyServer


@pytest.fixture
def shop(valkey_server: ValkeyServer) -> Iterator[Shop]:
    """A store of one's own; the test starts its workers."""
    opened = Shop(valkey_server)
    yield opened
    opened.close()
