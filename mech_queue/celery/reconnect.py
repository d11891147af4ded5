"""What a worker does when it loses a Redis broker, beside what Celery does."""

from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.common import ignore_errors

NAME = f"{__name__}:Consumer"


def use(conf: Any) -> None:
    """Let the workers of an app have this consumer, unless the user has one of their own."""
    if not conf.value_set_for("worker_consumer"):
        conf.worker_consumer = NAME


class Consumer(CeleryConsumer):
    """Celery's, which lives through the loss of a Redis broker although messages wait for their acknowledgement.

    Celery 5.7 first forgets the broker's address and then closes the connection, which is when kombu 5.7 sends such
    messages back: to no address, so that the worker ends with "'NoneType' object has no attribute 'hostname'".
    """

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Close the channel while the address is known."""
        channel = getattr(self.connection, "_default_channel", None)
        for _ in range(2):  # the first time may only tell that nothing will answer the read that is under way
            if channel is not None:
                ignore_errors(self.connection, channel.close)  # type: ignore[no-untyped-call]
        super().on_connection_error_after_connected(exc)
