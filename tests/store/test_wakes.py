"""What the scripts call out reaches every process, also over a connection that died unseen."""

import threading
from collections.abc import Iterator

import pytest
import redis

from mech_queue.store import Store, keys
from mech_queue.store.packing import pack
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
        store.redis.publish(keys.wake_channel(0), pack(["app-1", [b"qmail"]]))
        wait_until(lambda: heard == [b"mail"], 5)
    finally:
        wakes.stop()


def test_what_a_listener_does_not_understand_does_it_no_harm(store: Store) -> None:
    heard: list[tuple[str, str, bytes]] = []
    looks = threading.Semaphore(0)
    wakes = Wakes(store, lambda *one: heard.append(one), looks.release)
    wakes.start()
    try:
        assert looks.acquire(timeout=5)
        for said in (
            b"qapp-1\0mail",
            b"",
            b"\xc1",
            pack(1),
            pack([1, [2]]),
            pack([b"a", [b""]]),
            pack([b"app-1", [b"qmail"]]),
        ):
            store.redis.publish(keys.wake_channel(0), said)
        wait_until(lambda: heard == [("q", "app-1", b"mail")], 5)
    finally:
        wakes.stop()


def test_a_listener_that_the_store_refuses_asks_again(
    store: Store, admin: redis.Redis, valkey_server: ValkeyServer
) -> None:
    """As a store does that has just been started and reads its file."""
    heard: list[bytes] = []
    looks = threading.Semaphore(0)
    user = admin.execute_command
    # given a user that may not listen, and its listener
    user("ACL", "SETUSER", "deaf", "on", "nopass", "allkeys", "allcommands", "resetchannels")
    address = f"redis://deaf:any@127.0.0.1:{valkey_server.port}/0"
    wakes = Wakes(Store.open(address), lambda *one: heard.append(one[2]), looks.release)
    wakes.start()
    try:
        wait_until(lambda: any(one["username"] == "deaf" for one in admin.acl_log()), 5, "a refusal")
        # when it may
        user("ACL", "SETUSER", "deaf", "allchannels")
        # then it hears
        assert looks.acquire(timeout=10)
        store.redis.publish(keys.wake_channel(0), pack(["app-1", [b"qmail"]]))
        wait_until(lambda: heard == [b"mail"], 5)
    finally:
        wakes.stop()
        user("ACL", "DELUSER", "deaf")
