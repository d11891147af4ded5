"""Which queues a worker consumes, where its broker does not do as it is told."""

from types import SimpleNamespace

import pytest
from celery import Celery

from mech_queue.celery.consumers import Consumers
from mech_queue.celery.options import Options
from mech_queue.celery.runtime import Runtime


def test_queues_that_the_broker_could_not_bring_are_looked_for_again() -> None:
    # given a consumer whose broker takes one queue and refuses the next
    def add(name: str) -> None:
        if name != "jobs.app-1.a":
            raise TimeoutError(name)

    with Celery(broker="memory://", set_as_current=False) as app:
        consumer = SimpleNamespace(app=app, task_consumer=SimpleNamespace(queues=[]), add_task_queue=add)
        consumers = Consumers(Runtime(app, Options()), consumer)
        names = [f"jobs.app-1.{letter}" for letter in "abc"]
        consumers._known = set(names)
        # when it is told of three
        with pytest.raises(TimeoutError):
            consumers._change(names, [])
    # then only the one counts as consumed
    assert consumers._known == {"jobs.app-1.a"}
