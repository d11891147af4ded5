"""Whether the service is well, answered within a second even when the store hangs."""

import threading
import time
from dataclasses import dataclass, field

from mech_queue.model.errors import Refusal
from mech_queue.services import maintenance
from mech_queue.store import Store

PATIENCE_S = 0.8
"""How long a health request waits for the probe: the answer must be out within a second."""


@dataclass(slots=True)
class Finding:
    """What a probe found. ``trouble`` is None when the store is well."""

    trouble: str | None = "The store did not answer in time."
    totals: dict[str, int] = field(default_factory=dict)


class Probe:
    """One look at the store at a time, in a thread of its own; requests wait for it, but not for long."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._running = False
        self._done = 0
        self._finding = Finding()

    def ask(self) -> Finding:
        """The finding of a look that began after this call; after PATIENCE_S: that the store hangs."""
        until = time.monotonic() + PATIENCE_S
        with self._changed:
            wanted = self._done + (2 if self._running else 1)
            while self._done < wanted:
                if not self._running:
                    self._running = True
                    threading.Thread(target=self._look, name="health", daemon=True).start()
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return Finding()
            return self._finding

    def _look(self) -> None:
        finding = Finding()
        try:
            self._store.ping()
            finding = Finding(None, maintenance.counts(self._store))
        except Refusal as refusal:
            finding = Finding(refusal.message)
        finally:
            with self._changed:
                self._finding = finding
                self._running = False
                self._done += 1
                self._changed.notify_all()
