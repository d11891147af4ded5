"""The scheduler: moves what is due (delays, retries, leases, deliveries, removals) every 50 ms.

Every step is one compare-and-set script, so any number of schedulers may run, without a leader.
It outlives a store that is away, and ends with its running tick when it is told to stop.
"""

import signal
import sys
import threading
from collections.abc import Callable

import structlog

from config import logging as logs
from config.settings import Settings, load
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.services import maintenance
from mech_queue.store import Store
from tasks import wakeups

PAUSE_S = 0.05
"""Between two ticks that found nothing to do: the precision of delays."""

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0

log = structlog.stdlib.get_logger("scheduler")


class Scheduler:
    """The loop. ``stop`` may be called from anywhere, also from a signal handler."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._stopping = False
        self._pause = threading.Event()
        self._backoff_s = 0.0

    def stop(self, *_: object) -> None:
        """End after the tick that runs now."""
        self._stopping = True

    def run(self) -> None:
        """Greet the store (initialising an empty one), then tick until told to stop."""
        while not self._stopping and self._guarded(self._greet) is None:
            self._wait(self._backoff_s)
        if not self._stopping:
            log.info("scheduler runs")
        while not self._stopping:
            moved = self._guarded(self._tick)
            if not moved:
                self._wait(self._backoff_s or PAUSE_S)
        log.info("scheduler ended")

    def _greet(self) -> int:
        elsewhere = wakeups.elsewhere(self._settings)
        self._store.greet(initialise=True, defaults=self._settings.job_defaults, counts_wakeups=elsewhere)
        return 1

    def _tick(self) -> int:
        return maintenance.tick(self._store)

    def _guarded(self, step: Callable[[], int]) -> int | None:
        """Run a step; on trouble log it once per outage, and answer None with a longer backoff each time."""
        try:
            answer = step()
        except StoreStopped:
            raise
        except Exception as error:
            first = not self._backoff_s
            self._backoff_s = min(self._backoff_s * 2 or FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
            if not isinstance(error, Refusal):
                log.exception("tick failed", retry_in_s=self._backoff_s)
            elif first:
                log.warning("store is away, trying again", reason=error.message)
            return None
        if self._backoff_s:
            log.info("works again")
            self._backoff_s = 0.0
        return answer

    def _wait(self, seconds: float) -> None:
        """Sleep in steps of one tick, so that a stop is noticed soon."""
        while seconds > 0 and not self._stopping:
            self._pause.wait(min(seconds, PAUSE_S))
            seconds -= PAUSE_S


def run(settings: Settings) -> None:
    """Run one scheduler until SIGTERM or SIGINT."""
    store = Store.open(settings.redis_url)
    publisher = wakeups.publish(store, settings)
    scheduler = Scheduler(store, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, scheduler.stop)
    try:
        scheduler.run()
    finally:
        if publisher:
            publisher.close()
        store.close()


def main() -> None:
    """Entry point of ``python -m workers.scheduler``."""
    settings = load()
    logs.configure(settings, "scheduler")
    try:
        run(settings)
    except StoreStopped as error:
        print(f"scheduler cannot run: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
