"""The one table of Celery queues that the service's own stages consume: one per stage and shard."""

from kombu.entity import Exchange, Queue

from mech_queue.celery.broker import wakeup_queue
from mech_queue.store.keys import SHARDS
from mech_queue.store.wakeups import STAGE_TASKS


def queues(amqp: bool) -> list[Queue]:
    """``subscriptions.00`` … ``webhooks.15``. Refill counts what waits where it pushes to, hence one per shard.

    ``amqp``: the broker is RabbitMQ, which has kinds of queues.
    """
    names = (f"{stage}.{shard:02d}" for stage in STAGE_TASKS for shard in range(SHARDS))
    if amqp:
        return [wakeup_queue(name) for name in names]
    exchange = Exchange("", type="direct")  # type: ignore[no-untyped-call]
    return [Queue(name, exchange, routing_key=name) for name in names]  # type: ignore[no-untyped-call]
