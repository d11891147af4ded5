"""Fixtures for every test: a real store, a recording receiver, and no way out of loopback."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support import network, rabbitmq
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.valkey import ValkeyServer

if TYPE_CHECKING:
    from mech_queue.store import Store
    from tests.support.loop import LoopThread

network.install()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly what was not tested."""
    rabbitmq.say_what_was_skipped(terminalreporter)


@pytest.fixture(autouse=True)
def only_loopback() -> Iterator[None]:
    """Fail the test that tried to reach the outside, even when its code swallowed the refusal."""
    network.refused.clear()
    yield
    assert not network.refused, f"left loopback: {network.refused}"


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The session's valkey-server, without persistence; under pytest-xdist each worker has its own."""
    server = ValkeyServer().start()
    yield server
    server.close()


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The address of an empty database, for the user that docs/deployment.md describes."""
    return valkey_server.fresh_database()


@pytest.fixture
def admin(valkey_server: ValkeyServer, redis_url: str) -> Iterator[redis.Redis]:
    """A client of the same database that may do everything, for looking behind the scenes."""
    with valkey_server.client(int(redis_url.rpartition("/")[2])) as client:
        yield client


@pytest.fixture
def store(redis_url: str) -> Iterator["Store"]:
    """An open, initialised store in an empty database."""
    from mech_queue.store import Store

    opened = Store.open(redis_url)
    opened.greet(initialise=True)
    yield opened
    opened.close()


@pytest.fixture
def loop() -> Iterator["LoopThread"]:
    """An event loop in a thread, with requests in greenlets."""
    from tests.support.loop import LoopThread

    running = LoopThread()
    yield running
    running.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A recording HTTP server that answers 200 unless told otherwise."""
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Real processes (API, workers, scheduler) with a store of their own, shared by a module's tests.

    Tests that kill things make their own: ``with Service() as service``.
    """
    with Service() as running:
        yield running
