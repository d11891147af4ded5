"""A wake-up that a script pushes is a Celery message like any other."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

from mech_queue.store import Store, keys
from mech_queue.store.wakeups import FORMAT, WAKE_TASK
from tests.store.engine import APPLICATION, Engine

LIST = keys.broker_list(APPLICATION, "mail")
# What send_task adds and a worker does not need: Celery's canvas, and the body in base64.
ONLY_CELERY = {
    ("headers", "group_index"),
    ("headers", "replaced_task_nesting"),
    ("headers", "stamped_headers"),
    ("headers", "stamps"),
    ("properties", "body_encoding"),
}
ONLY_OURS = {("headers", "mq")}


@pytest.fixture
def celery_app(redis_url: str) -> Iterator[Celery]:
    """A Celery app whose broker is the store's database."""
    app = Celery("other", broker=redis_url)
    yield app
    app.close()


def sent_by_celery(app: Celery, store: Store) -> dict[str, Any]:
    """The message of send_task, as it stands in the list."""
    app.send_task(WAKE_TASK, queue="celery-itself", ignore_result=True)
    found: dict[str, Any] = json.loads(store.redis.lpop("celery-itself"))
    return found


def shape(message: dict[str, Any]) -> dict[tuple[str, ...], str]:
    """Each place of a message and the type that stands there (nested twice: headers and properties)."""
    places: dict[tuple[str, ...], str] = {}
    for name, value in message.items():
        places[(name,)] = type(value).__name__
        for inner, deeper in value.items() if isinstance(value, dict) else ():
            places[(name, inner)] = type(deeper).__name__
    return places


def test_a_wake_up_has_the_form_of_what_send_task_writes(engine: Engine, celery_app: Celery) -> None:
    engine.submit()
    ours = shape(json.loads(engine.store.redis.lindex(LIST, 0)))
    theirs = shape(sent_by_celery(celery_app, engine.store))

    assert ours.keys() - theirs.keys() == ONLY_OURS
    assert theirs.keys() - ours.keys() <= ONLY_CELERY
    # reply_to is null here: nobody waits for the result of a wake-up
    different = {place for place in ours.keys() & theirs.keys() if ours[place] != theirs[place]}
    assert different <= {("properties", "reply_to")}


def test_kombu_reads_it_as_protocol_2(engine: Engine, redis_url: str) -> None:
    engine.submit()
    engine.submit()
    received: list[tuple[Any, Any]] = []

    def take(body: Any, message: Any) -> None:
        received.append((body, message))
        message.ack()

    with Connection(redis_url) as connection:
        with Consumer(connection.channel(), [Queue(LIST)], callbacks=[take], accept=["json"]):
            while len(received) < 2:
                connection.drain_events(timeout=10)

    ids = {message.headers["id"] for _, message in received}
    assert len(ids) == 2
    assert {message.delivery_tag for _, message in received} == ids
    for body, message in received:
        assert message.headers["task"] == WAKE_TASK
        assert message.headers["mq"] == [FORMAT, APPLICATION, "mail"]
        assert body[:2] == [[], {}]
        assert message.properties["correlation_id"] == message.headers["id"]
        assert message.delivery_info["routing_key"] == LIST


def test_ids_of_wake_ups_differ_between_scripts_and_shards(engine: Engine) -> None:
    other = next(name for name in (f"app-{n:012d}" for n in range(2, 99)) if keys.shard_of(name) != engine.shard)
    for _ in range(3):
        engine.submit()
    Engine(engine.store, other).submit()

    lists = [LIST, keys.broker_list(other, "mail")]
    messages = [json.loads(raw) for name in lists for raw in engine.store.redis.lrange(name, 0, -1)]
    assert len({message["headers"]["id"] for message in messages}) == len(messages) == 4
