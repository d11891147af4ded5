"""``Task.Strategy`` of the wake-up task: how the worker treats an arriving wake-up.

Celery's default strategy would build its own request class, send a received event, look at ETA and rate
limits; a wake-up has none of these and must stay invisible to monitors.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from celery.worker import state as worker_state

from mech_queue.celery.held import Place
from mech_queue.celery.runtime import runtime_of
from mech_queue.celery.wake import WakeRequest
from mech_queue.store.wakeups import COUNTED, FORMAT

if TYPE_CHECKING:
    from celery import Celery

logger = get_logger("mech_queue")

HEADER = "mq"

_unknown_formats: set[str] = set()


def strategy(task: Any, app: "Celery", consumer: Any, **_: Any) -> Callable[..., None]:
    """Return the handler for wake-ups of this consumer (Celery calls it anew after each reconnect)."""
    runtime = runtime_of(app)
    # Where messages wait here for a slot, one of them gets it before the next job of a chain could.
    exchanges = not consumer.pool.uses_semaphore or bool(app.conf.get("worker_disable_prefetch"))

    def handle(message: Any, _body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        place = place_of(message.headers)
        if place is None:
            _complain_once(message.headers.get(HEADER))
            ack(logger, consumer.connection_errors)
            return
        if message.headers.get(COUNTED):
            runtime.publisher.arrived(place.broker_queue)
        request = WakeRequest(
            runtime,
            consumer,
            place,
            message,
            exchanges=exchanges,
            on_ack=ack,
            on_reject=reject,
            app=app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=task,
            connection_errors=consumer.connection_errors,
        )
        worker_state.task_reserved(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)

    return handle


def _complain_once(header: Any) -> None:
    """They come by the hundred: one line for each kind."""
    kind = repr(header[0] if isinstance(header, list | tuple) and header else header)[:80]
    if kind not in _unknown_formats:
        _unknown_formats.add(kind)
        logger.error("Wake-ups of a format this version does not know are dropped: %s", kind)


def place_of(headers: dict[str, Any]) -> Place | None:
    """Application and queue of a wake-up, None when the header is not ours."""
    header = headers.get(HEADER)
    if not isinstance(header, list | tuple) or len(header) < 3 or header[0] != FORMAT:
        return None
    return Place(str(header[1]), str(header[2]))
