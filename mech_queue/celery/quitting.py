"""SIGQUIT: a soft shutdown takes no new jobs; and with gevent, which Celery's own handler does not survive.

gevent runs signal handlers in its event loop, where nothing may wait. Celery's handler waits, for bodies in a soft
shutdown and for those that it stops: with gevent it breaks off there ("Impossible to call blocking function in the
event loop callback"), the worker ends at once, and nothing was stopped. So there it runs in a greenlet of its own.
"""

from typing import TYPE_CHECKING, Any

from billiard.common import REMAP_SIGTERM
from celery import platforms
from celery.apps.worker import install_worker_term_hard_handler
from kombu.utils.compat import detect_environment

if TYPE_CHECKING:
    from mech_queue.celery.runtime import Runtime


def take_no_more(worker: Any, runtime: "Runtime") -> None:
    """From the begin of a soft shutdown on the worker claims nothing."""
    wait = worker.wait_for_soft_shutdown

    def take_no_more_and_wait() -> None:
        runtime.quitting = True
        wait()

    worker.wait_for_soft_shutdown = take_no_more_and_wait


def quit_in_a_greenlet(worker: Any, runtime: "Runtime") -> None:
    """Where gevent is: handle the signals of a cold shutdown where waiting is allowed."""
    if detect_environment() != "gevent":  # type: ignore[no-untyped-call]
        return
    import gevent

    def stop_bodies(_worker: Any) -> None:
        consumer = worker.consumer
        if not runtime.quitting:
            # Not here: the main greenlet reads from this connection, and two must not.
            consumer.call_soon(_cancel, consumer)
            worker.wait_for_soft_shutdown()
        consumer.cancel_active_requests()

    for name in ("SIGQUIT", "SIGTERM") if REMAP_SIGTERM == "SIGQUIT" else ("SIGQUIT",):
        install_worker_term_hard_handler(worker, sig=name, callback=stop_bodies)
        handle = platforms.signals[name]
        platforms.signals[name] = lambda *signal, handle=handle: gevent.spawn(handle, *signal)


def _cancel(consumer: Any) -> None:
    if consumer.task_consumer is not None:
        consumer.task_consumer.cancel()
