"""What monitors such as Flower see: the task events of a shop's workers."""

import threading
from collections import defaultdict
from typing import Any

from celery import Celery

from tests.celery.support import Shop

CLOSING = {"task-succeeded", "task-failed", "task-retried", "task-revoked", "task-rejected"}

LOOK_S = 0.2
"""How often it looks whether it is to stop."""


class Events:
    """Collects all task events of the shop's broker; connects again when it was away (what came meanwhile is lost)."""

    def __init__(self, shop: Shop) -> None:
        self.app = Celery("monitor", broker=shop.broker_url, set_as_current=False)
        self.by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._connection = self.app.connection()
        self._receiver = self.app.events.Receiver(self._connection, handlers={"*": self._take})
        self._thread = threading.Thread(target=self._receiver.run, kwargs={"wakeup": False, "safety_interval": LOOK_S})
        self._thread.start()

    def _take(self, event: dict[str, Any]) -> None:
        if "uuid" in event:
            self.by_id[event["uuid"]].append(event)

    def types(self, job_id: str) -> list[str]:
        """The events of one job, in the order they came."""
        return [event["type"] for event in self.by_id[job_id]]

    def closings(self, job_id: str) -> list[str]:
        """Those of them that end an attempt."""
        return [name for name in self.types(job_id) if name in CLOSING]

    def close(self) -> None:
        """Stop."""
        self._receiver.should_stop = True
        self._thread.join()
        self._connection.close()
        self.app.close()
