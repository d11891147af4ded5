"""One API process: made by granian's worker through ``make``, ended by its signal."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import uvloop
from granian import loops

from api.app import create_app, runtime_of
from api.asgi import Asgi, Receive, Scope, Send
from api.runtime import Runtime
from config import logging as log_config
from config.server import SPARE_THREADS
from config.settings import Settings, load
from mech_queue.model import address
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.services import applications
from mech_queue.store import Store
from mech_queue.store.greenlets import Greenlets
from tasks import wakeups

log = logging.getLogger(__name__)

GREET_AGAIN_S = 1.0


class Loop(uvloop.Loop):
    """The event loop of an API process. Its server is told once to end: granian hangs when it hears it three times."""

    def __init__(self) -> None:
        super().__init__()
        self._told = False
        self._at_end: Callable[[], None] | None = None

    def at_end(self, function: Callable[[], None]) -> None:
        """Call it when the process is told to end, before the server is."""
        self._at_end = function

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:
        """As the base does, but for the first signal of any kind only."""
        super().add_signal_handler(sig, self._tell, callback, args)

    def _tell(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        if self._told:
            return
        self._told = True
        if self._at_end is not None:
            self._at_end()
        callback(*args)


@loops.register("auto")
def new_loop() -> Loop:
    """What granian runs an API process in."""
    loop = Loop()
    asyncio.set_event_loop(loop)
    return loop


class Server:
    """What granian serves in a worker process. The application is made when its event loop runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._serve: Asgi | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        if self._serve is not None and scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await receive()
            loop = asyncio.get_running_loop()
            assert isinstance(loop, Loop)
            self._serve = start(self._settings, loop)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})


def make() -> Server:
    """The ASGI application of a worker process."""
    settings = load()
    log_config.configure(settings, "api")
    return Server(settings)


def start(settings: Settings, loop: Loop) -> Asgi:
    """Everything that an API process is, with its background threads."""
    address.allow(settings.webhook_allowed_cidrs)
    threads = ThreadPoolExecutor(settings.max_waiters + SPARE_THREADS, thread_name_prefix="request")
    greenlets = Greenlets(loop, threads)
    store = Store.open(settings.redis_url, greenlets=greenlets)
    wakeups.publish(store, settings)
    app = create_app(settings, store)
    runtime = runtime_of(app)
    stop = runtime.stopping
    loop.at_end(lambda: _stop(runtime))
    threading.Thread(target=greet_until_heard, args=(settings, store, stop), name="greet", daemon=True).start()
    threading.Thread(target=runtime.metrics.flush_for_ever, args=(store, stop), name="http-counts", daemon=True).start()
    _collect_rarely()
    return Asgi(app, greenlets, threads, settings.max_body_bytes)


def _collect_rarely() -> None:
    """Look for garbage in cycles less often, as requests leave hardly any, and never in what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _stop(runtime: Runtime) -> None:
    """Answer all waiting requests at once, since the process was told to stop."""
    runtime.stopping.set()
    threading.Thread(target=runtime.waiters.close, name="stop", daemon=True).start()


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
