"""SIGQUIT: a soft shutdown takes no new jobs; and Celery's handler runs where it may wait.

Python runs it between any two steps of the main thread. Celery's talks with the broker: in the middle of another
answer that is being read, it would take the rest of it for its own and, on Celery 5.6, wait for ever. So it is put off
to the next turn of the main loop.

gevent runs signal handlers in its event loop, where nothing may wait. Celery's handler waits, for bodies in a soft
shutdown and for those that it stops: with gevent it breaks off there ("Impossible to call blocking function in the
event loop callback"), the worker ends at once, and nothing was stopped. So there it runs in a greenlet of its own.
"""

import _thread
from typing import TYPE_CHECKING, Any

from billiard.common import REMAP_SIGTERM
from celery import platforms
from celery.apps.worker import install_worker_term_hard_handler
from celery.concurrency.solo import TaskPool as Solo
from kombu.utils.compat import detect_environment

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime

SIGNALS = ("SIGQUIT", "SIGTERM") if REMAP_SIGTERM == "SIGQUIT" else ("SIGQUIT",)


def take_no_more(worker: Any, runtime: "Runtime") -> None:
    """From the begin of a soft shutdown on the worker claims nothing."""
    wait = worker.wait_for_soft_shutdown

    def take_no_more_and_wait() -> None:
        runtime.quitting, runtime.board.open = True, False
        wait()

    worker.wait_for_soft_shutdown = take_no_more_and_wait


def handle_where_waiting_is_allowed(worker: Any, runtime: "Runtime") -> None:
    """The signals of a cold shutdown: see the module."""
    if detect_environment() == "gevent":  # type: ignore[no-untyped-call]
        _in_a_greenlet(worker, runtime)
    elif not isinstance(worker.pool, Solo):  # its main loop turns when the body has ended
        for name in SIGNALS:
            platforms.signals[name] = _put_off(worker.consumer, platforms.signals[name])


def _put_off(consumer: Any, handle: Any) -> Any:
    def handler(*signal: Any) -> None:
        if consumer.task_consumer is None:
            handle(*signal)  # no connection: nothing to read, and no loop that turns
        else:
            # By a thread, since the main one may be where it holds the lock that this takes.
            _thread.start_new_thread(consumer.call_soon, (handle, *signal))

    return handler


def _in_a_greenlet(worker: Any, runtime: "Runtime") -> None:
    import gevent

    def stop_bodies(_worker: Any) -> None:
        consumer = worker.consumer
        if not runtime.quitting:
            # Not here: the main greenlet reads from this connection, and two must not.
            consumer.call_soon(_cancel, consumer)
            worker.wait_for_soft_shutdown()
        consumer.cancel_active_requests()

    for name in SIGNALS:
        install_worker_term_hard_handler(worker, sig=name, callback=stop_bodies)
        handle = platforms.signals[name]
        platforms.signals[name] = lambda *signal, handle=handle: gevent.spawn(handle, *signal)


def _cancel(consumer: Any) -> None:
    if consumer.task_consumer is not None:
        consumer.task_consumer.cancel()
