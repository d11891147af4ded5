"""What tests of use cases share."""

from collections.abc import Iterator

import pytest

from mech_queue.outbound import Sender
from mech_queue.store import Store
from tests.services.pipeline import LOOPBACK, Pipeline


@pytest.fixture
def pipeline(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    sender = Sender(LOOPBACK, connect_s=0.5, total_s=1)
    yield Pipeline(store, sender, monkeypatch)
    sender.close()
