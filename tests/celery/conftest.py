"""Fixtures: a shop of one's own, RabbitMQ, and a shop whose wake-ups go through it."""

from collections.abc import Iterator

import pytest

from mech_queue.celery.broker import declare
from mech_queue.celery.publish import Publisher
from tests.celery.support import APPLICATION, QUEUE, Shop
from tests.support import rabbitmq
from tests.support.rabbitmq import RabbitServer
from tests.support.valkey import ValkeyServer


@pytest.fixture
def shop(valkey_server: ValkeyServer) -> Iterator[Shop]:
    """A store of one's own; the test starts its workers."""
    opened = Shop(valkey_server)
    yield opened
    opened.close()


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
    """A shop whose wake-ups RabbitMQ carries; what earlier tests left there is gone."""
    with rabbit.connection() as connection:
        channel = connection.channel()
        declare(channel, f"jobs.{APPLICATION}.{QUEUE}")
        channel.queue_purge(f"jobs.{APPLICATION}.{QUEUE}")
    opened = Shop(valkey_server, BROKER_URL=rabbit.url)
    opened.store.greet(initialise=True, counts_wakeups=True)
    publisher = Publisher(opened.store, rabbit.connection)
    yield opened
    publisher.close()
    opened.close()
