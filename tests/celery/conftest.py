"""Fixtures: a shop of one's own, RabbitMQ, and a shop whose wake-ups go through it.

``NATIVE_BROKER=rabbitmq make pytest PYTEST=tests/celery`` runs everything here over RabbitMQ.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest
from kombu import pools

from mech_queue.celery.broker import declare
from mech_queue.celery.publish import Publisher
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import rabbitmq
from tests.support.rabbitmq import RabbitServer
from tests.support.valkey import ValkeyServer

OVER_RABBITMQ = os.environ.get("NATIVE_BROKER") == "rabbitmq"

OpenShop = Callable[[], AbstractContextManager[Shop]]


@pytest.fixture(scope="session")
def open_shop(valkey_server: ValkeyServer, request: pytest.FixtureRequest) -> OpenShop:
    """Opens shops with a store of their own; the broker is that store, unless NATIVE_BROKER says otherwise."""
    if not OVER_RABBITMQ:
        return lambda: closing(Shop(valkey_server))
    server: RabbitServer = request.getfixturevalue("rabbit")
    return lambda: over_rabbitmq(valkey_server, server)


@pytest.fixture
def shop(open_shop: OpenShop) -> Iterator[Shop]:
    """A shop for this test alone, which starts its workers."""
    with open_shop() as opened:
        yield opened


@pytest.fixture
def broker_is_store() -> None:
    """For tests that look into the lists of wake-ups in the store."""
    if OVER_RABBITMQ:
        pytest.skip("RabbitMQ is the broker")


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    """The session's RabbitMQ."""
    if not rabbitmq.installed():
        pytest.skip(rabbitmq.MISSING)
    server = RabbitServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def rabbit_shop(valkey_server: ValkeyServer, rabbit: RabbitServer) -> Iterator[Shop]:
    """A shop whose wake-ups RabbitMQ carries."""
    with over_rabbitmq(valkey_server, rabbit) as opened:
        yield opened


@contextmanager
def over_rabbitmq(valkey_server: ValkeyServer, rabbit: RabbitServer) -> Iterator[Shop]:
    """What earlier tests left in the broker is gone, with their connections: it may have been killed since."""
    pools.reset()
    with rabbit.connection() as connection:
        channel = connection.channel()
        declare(channel, f"jobs.{APPLICATION}.{QUEUE}")
        channel.queue_purge(f"jobs.{APPLICATION}.{QUEUE}")
        with contextlib.suppress(*connection.channel_errors):  # there is none yet
            channel.queue_purge("celery")
    opened = Shop(valkey_server, BROKER_URL=rabbit.url)
    opened.store.greet(initialise=True, counts_wakeups=True)
    publisher = Publisher(opened.store, rabbit.connection)
    try:
        yield opened
    finally:
        publisher.close()
        opened.close()
