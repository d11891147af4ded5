"""One connection to a broker that is not the store: declares, publishes with confirms, counts what waits.

For RabbitMQ, and for any other transport of kombu whose ``passive`` declaration counts messages.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from kombu.connection import Connection
from kombu.entity import Queue

from mech_queue.store import wakeups

CONFIRM_TIMEOUT_S = 10.0
"""A broker that takes longer to confirm is taken for lost: what it may have is sent again, which is harmless."""

UNUSED_MS = 7 * 24 * 3_600_000
QUEUE_ARGUMENTS = {"x-queue-type": "quorum", "x-expires": UNUSED_MS}
"""Of every queue of wake-ups. RabbitMQ removes one that nobody has used for a week, such as a deleted queue's."""

VANISHED_S = 2.0
"""How long a queue that somebody deleted is not declared again from here. RabbitMQ tells its consumers to start
anew, and forgets to when the queue is there again at once; they declare it, too."""


class _WakeupQueue(Queue):
    """Declared as ``declare`` does it; published to by its name.

    Its type does not show among its arguments: Celery would start its native delayed delivery, which is 28
    more queues and another way for the ETA of ordinary tasks. ``steps.PrefetchStep`` does what is needed.
    """

    def _create_queue(self, nowait: bool = False, channel: Any = None) -> None:
        declare(channel or self.channel, self.name)


def wakeup_queue(name: str) -> Queue:
    """The queue of wake-ups ``name``, for a consumer on RabbitMQ."""
    return _WakeupQueue(name, routing_key=name)  # type: ignore[no-untyped-call]


def declare(channel: Any, name: str) -> None:
    """Make sure that the queue exists, the same way everywhere: RabbitMQ refuses a second opinion."""
    channel.queue_declare(queue=name, durable=True, auto_delete=False, arguments=dict(QUEUE_ARGUMENTS))


def is_amqp(connection: Connection) -> bool:
    """Whether this is RabbitMQ (or another AMQP broker): queue types, confirms and returned messages exist."""
    return bool(connection.transport.driver_type == "amqp")


class NotConfirmed(Exception):
    """The broker refused a message."""


class Broker:
    """Used by one thread. After any error call ``drop``; the next use connects again."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Any = None  # kombu's methods have no types
        self._channel: Any = None
        self._declared: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._unconfirmed: set[int] = set()
        self._published = 0
        self._returned: list[str] = []
        self._refused = 0

    def publish(self, wanted: Mapping[str, int]) -> None:
        """Send so many wake-ups to each queue; returns when the broker has them. Raises whatever went wrong.

        Those of a queue that somebody deleted are dropped, for the scheduler to ask for them again.
        """
        channel = self.open()
        for name, number in wanted.items():
            for _ in range(number):
                self._send(channel, name)
        self._await_confirms()
        while self._returned:
            self._vanished(self._returned.pop())

    def waiting(self, name: str) -> int:
        """How many messages of a queue no worker has; 0 if there is no such queue."""
        channel = self.open()
        try:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
        except self._connection.channel_errors:
            self._vanished(name)
            if is_amqp(self._connection):
                self._channel = None  # closed by the refusal
            return 0

    def drop(self) -> None:
        """Forget the connection, whatever state it is in."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=1.0)
            with contextlib.suppress(Exception):
                connection.close()

    def open(self) -> Any:
        """The channel, connected. Raises whatever the broker being away looks like."""
        if self._channel is not None:
            return self._channel
        if self._connection is None:
            connection = self._connect()
            if is_amqp(connection):
                connection.transport_options = {
                    "read_timeout": CONFIRM_TIMEOUT_S,
                    "write_timeout": CONFIRM_TIMEOUT_S,
                    **(connection.transport_options or {}),
                    "confirm_publish": False,  # it waits for each message by itself; here many are on their way
                }
            connection.connect()  # type: ignore[no-untyped-call]
            self._connection = connection
        channel = self._connection.channel()
        self._unconfirmed, self._published, self._refused, self._returned = set(), 0, 0, []
        if is_amqp(self._connection):
            channel.confirm_select()
            channel.events["basic_ack"].add(self._confirmed)
            channel.events["basic_nack"].add(self._not_confirmed)
            channel.events["basic_return"].add(self._came_back)
        self._channel = channel
        return channel

    def _send(self, channel: Any, name: str) -> None:
        if name not in self._declared and time.monotonic() >= self._not_before.get(name, 0.0):
            declare(channel, name)
            self._declared.add(name)
        wakeup = wakeups.message(name, str(uuid.uuid4()))
        properties = wakeup["properties"]
        message = channel.prepare_message(
            wakeup["body"],
            priority=properties["priority"],
            content_type=wakeup["content-type"],
            content_encoding=wakeup["content-encoding"],
            headers=wakeup["headers"],
            properties={key: properties[key] for key in ("correlation_id", "delivery_mode")},
        )
        channel.basic_publish(message, exchange="", routing_key=name, mandatory=True)
        self._published += 1
        self._unconfirmed.add(self._published)

    def _vanished(self, name: str) -> None:
        if name in self._declared:
            self._declared.discard(name)
            self._not_before[name] = time.monotonic() + VANISHED_S

    def _await_confirms(self) -> None:
        if not is_amqp(self._connection):
            return
        while self._unconfirmed:
            self._connection.drain_events(timeout=CONFIRM_TIMEOUT_S)
        if self._refused:
            raise NotConfirmed(f"the broker refused {self._refused} messages")

    def _confirmed(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {one for one in self._unconfirmed if one > tag}
        else:
            self._unconfirmed.discard(tag)

    def _not_confirmed(self, tag: int, multiple: bool) -> None:
        before = len(self._unconfirmed)
        self._confirmed(tag, multiple)
        self._refused += before - len(self._unconfirmed)

    def _came_back(self, _error: Any, _exchange: str, routing_key: str, _message: Any) -> None:
        self._returned.append(routing_key)
