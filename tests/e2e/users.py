"""A user of the whole service: an application with workers of both kinds, a subscription, and jobs all the time."""

import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mech_queue.client import Client, Refusal, Unreachable
from tests.e2e.processes import UserWorkers
from tests.support import Receiver, wait_until
from tests.support.service import Application, Service

QUEUES = ("http", "native")


class User:
    """One application with an HTTP worker, a native one, a subscription and a client that submits all the time."""

    def __init__(
        self,
        stack: ExitStack,
        service: Service,
        receiver: Receiver,
        folder: Path,
        *,
        broker_url: str,
        broker_primary: str = "",
    ) -> None:
        self.application: Application = service.application()
        folder = folder / self.application.id
        folder.mkdir()
        self.client = stack.enter_context(Client(service.url, self.application.api_key, retries=0))
        self.path = f"/{self.application.id}"
        self._receiver = receiver
        self.client.subscriptions.create(name="s", endpoint=receiver.url(self.path), events=["completed"])
        workers = UserWorkers(service, self.application, folder, broker_url=broker_url, broker_primary=broker_primary)
        self.workers = workers
        stack.enter_context(workers)
        for name in QUEUES:
            workers.start(name)
        self.ids: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self._thread.start()

    def _submit(self) -> None:
        """One after the other, come what may; every third a little later."""
        while not self._ended.is_set():
            number = len(self.ids)
            later: dict[str, Any] = {"delay": 300} if number % 3 == 0 else {}
            try:
                job = self.client.submit(
                    QUEUES[number % 2], {"number": number}, idempotency_key=f"job-{number}", maxStalls=50, **later
                )
                self.ids.append(job.id)
            except (Unreachable, Refusal) as error:
                assert isinstance(error, Unreachable) or error.status >= 500, error
            self._ended.wait(0.03)

    def stop(self) -> None:
        """Submit no more."""
        self._ended.set()
        self._thread.join()

    def found(self) -> set[str]:
        """The ids of its jobs in the store."""
        return {job.id for job in self.client.jobs.search(page_size=1000)}

    def open_jobs(self) -> list[tuple[str, str, str]]:
        """(id, queue, status) of those that are not complete."""
        jobs = self.client.jobs.search(page_size=1000)
        return [(job.id, job.queue, job.status) for job in jobs if job.status != "completed"]

    def told(self) -> Counter[str]:
        """Whose end the subscription has heard of, and by how many events."""
        events = {one.headers["webhook-id"]: one.json()["jobId"] for one in self._receiver.of(self.path)}
        return Counter(events.values())


def go_on(users: list[User], count: int) -> None:
    """Wait until each of them has submitted so many more."""
    before = [len(user.ids) for user in users]
    wait_until(
        lambda: all(len(user.ids) >= was + count for user, was in zip(users, before, strict=True)),
        60,
        f"{count} more jobs of each",
    )
