"""The wake-up that the store's Lua pushes, against what Celery itself writes to the same broker."""

import json
from typing import Any

import pytest
from celery import Celery
from kombu.transport.virtual.base import Message

from tests.celery.support import APPLICATION, QUEUE, Shop

pytestmark = pytest.mark.usefixtures("broker_is_store")

BROKER_LIST = f"jobs.{APPLICATION}.{QUEUE}"


def shape(value: Any) -> Any:
    return {key: type(inner).__name__ for key, inner in value.items()}


def test_a_wake_up_is_what_send_task_writes(shop: Shop) -> None:
    # given a wake-up by the store and the same call by Celery
    shop.submit("noop")
    celery = Celery("sender", broker=shop.url)
    header = [1, APPLICATION, QUEUE]
    celery.send_task("mech_queue.wake", queue=BROKER_LIST, headers={"mq": header}, ignore_result=True, priority=0)
    celery.close()
    with shop.redis() as client:
        sent, pushed = (json.loads(text) for text in client.lrange(BROKER_LIST, 0, -1))

    # then both have the same parts; ours leaves out what Celery reads with a default
    assert set(sent) == set(pushed)
    for part in ("content-encoding", "content-type"):
        assert sent[part] == pushed[part]
    assert set(pushed["headers"]) - set(sent["headers"]) == set()
    for name in ("lang", "task", "eta", "expires", "retries", "timelimit", "ignore_result", "mq"):
        assert sent["headers"][name] == pushed["headers"][name], name
    assert pushed["headers"]["mq"] == header
    for name in ("delivery_mode", "delivery_info", "priority"):
        assert sent["properties"][name] == pushed["properties"][name], name
    identifier = pushed["headers"]["id"]
    assert {identifier} == {
        pushed["headers"]["root_id"],
        pushed["properties"]["correlation_id"],
        pushed["properties"]["delivery_tag"],
    }


def test_kombu_reads_it_as_it_reads_its_own(shop: Shop) -> None:
    shop.submit("noop")
    with Celery("reader", broker=shop.url).connection() as connection, connection.channel() as channel:
        message = channel.basic_get(BROKER_LIST, no_ack=True)
        assert isinstance(message, Message)
        assert message.decode() == [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        assert message.headers["task"] == "mech_queue.wake"
        assert channel.basic_get(BROKER_LIST, no_ack=True) is None


def test_each_wake_up_has_an_id_of_its_own(shop: Shop) -> None:
    shop.submit_many(20, "noop")
    with shop.redis() as client:
        pushed = [json.loads(text)["properties"]["delivery_tag"] for text in client.lrange(BROKER_LIST, 0, -1)]
    assert len(pushed) == len(set(pushed)) == 20
