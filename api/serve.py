"""One API process: made by granian's worker through ``make``, ended by its signal."""

import logging
import os
import signal
import sys
import threading

from flask import Flask

from api.app import create_app, runtime_of
from api.runtime import Runtime
from config import logging as log_config
from config.settings import Settings, load
from mech_queue.model import address
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.services import applications
from mech_queue.store import Store
from tasks import wakeups

log = logging.getLogger(__name__)

GREET_AGAIN_S = 1.0


def make() -> Flask:
    """The WSGI application of a worker process, with its background threads."""
    settings = load()
    log_config.configure(settings, "api")
    address.allow(settings.webhook_allowed_cidrs)
    store = Store.open(settings.redis_url)
    wakeups.publish(store, settings)
    app = create_app(settings, store)
    runtime = runtime_of(app)
    stop = runtime.stopping
    _end_on_signal(runtime)
    threading.Thread(target=greet_until_heard, args=(settings, store, stop), name="greet", daemon=True).start()
    threading.Thread(target=runtime.metrics.flush_for_ever, args=(store, stop), name="http-counts", daemon=True).start()
    return app


def greet_until_heard(settings: Settings, store: Store, stop: threading.Event) -> None:
    """Initialise the store as soon as it answers; until then /health says that it does not."""
    while not stop.is_set():
        try:
            store.greet(initialise=True, defaults=settings.job_defaults)
            applications.ensure_master(store)
            return
        except Refusal:
            stop.wait(GREET_AGAIN_S)
        except StoreStopped as stopped:
            print(f"mech-queue cannot serve: {stopped}", file=sys.stderr, flush=True)
            os.kill(os.getppid(), signal.SIGTERM)
            return


def _end_on_signal(runtime: Runtime) -> None:
    """Answer all waiting requests at once when the process is told to stop.

    granian sets its own handlers after this; the wake-up descriptor hears every signal beside them.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def listen() -> None:
        while True:
            numbers = os.read(heard, 64)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                break
        runtime.stopping.set()
        runtime.waiters.close()

    threading.Thread(target=listen, name="signals", daemon=True).start()
