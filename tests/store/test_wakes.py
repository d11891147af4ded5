"""What the scripts call out reaches every process, also over a connection that died unseen."""

import threading
from collections.abc import Iterator

import pytest

from mech_queue.store import Store, keys
from mech_queue.store.wakes import Wakes
from tests.support import wait_until
from tests.support.faults import FaultProxy
from tests.support.valkey import ValkeyServer


@pytest.fixture
def way(valkey_server: ValkeyServer) -> Iterator[FaultProxy]:
    made = FaultProxy(valkey_server.port)
    yield made
    made.close()


def test_a_listener_whose_connection_was_forgotten_listens_again(
    store: Store, way: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mech_queue.store.wakes.ANSWER_WITHIN_S", 1)
    heard: list[bytes] = []
    looks = threading.Semaphore(0)
    wakes = Wakes(Store.open(f"redis://127.0.0.1:{way.port}/0"), lambda *one: heard.append(one[2]), looks.release)
    wakes.start()
    try:
        # given a listener
        assert looks.acquire(timeout=5)
        # when a firewall forgets its connection
        way.half_open()
        # then it connects anew, looks for what it missed, and hears again
        assert looks.acquire(timeout=10)
        store.redis.publish(keys.wake_channel(0), b"qapp-1\0mail")
        wait_until(lambda: heard == [b"mail"], 5)
    finally:
        wakes.stop()
