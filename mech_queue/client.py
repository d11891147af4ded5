"""The HTTP client: everything that a producer, an operator or a worker asks of mech-queue.

    from mech_queue.client import Client

    client = Client("http://localhost:3003", "sk_…")
    job = client.submit("email", {"to": "user@example.com"}, metadata={"customerId": "cust-123"})
    print(job.wait(timeout_s=60).result)

Errors are ``Refusal`` (the service said no; ``code`` says why) and ``Unreachable`` (it said nothing).
Needs ``requests`` only. Safe to share between threads and to carry through a fork.
"""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from mech_queue._http.jobs import Job, JobHandle, Jobs, NewJob
from mech_queue._http.nouns import (
    Applications,
    Deliveries,
    Queues,
    Schedules,
    Subscriptions,
    events,
)
from mech_queue._http.transport import READ_TIMEOUT_S, RETRIES, Transport, Unreachable, segment
from mech_queue._http.work import Lease, TakenJob, Work
from mech_queue.model.errors import Code, Refusal

__all__ = ["Client", "Code", "Job", "JobHandle", "Lease", "NewJob", "Refusal", "TakenJob", "Unreachable"]


class Client:
    """One service, one API key.

    ``application_id``: with the master key, act for this application. ``timeout_s``: how long one answer
    may take (long polls get theirs on top). ``retries``: repetitions of requests that are safe to repeat.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        application_id: str | None = None,
        timeout_s: float = READ_TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        self._transport = Transport(url, api_key, application_id=application_id, timeout_s=timeout_s, retries=retries)
        self.jobs = Jobs(self._transport)
        self.work = Work(self._transport)
        self.queues = Queues(self._transport)
        self.schedules = Schedules(self._transport)
        self.subscriptions = Subscriptions(self._transport)
        self.deliveries = Deliveries(self._transport)
        self.applications = Applications(self._transport)

    @property
    def url(self) -> str:
        """The service's address, without slash at the end."""
        return self._transport.url

    def submit(
        self,
        queue: str,
        data: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        webhooks: Mapping[str, str] | None = None,
        task: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> JobHandle:
        """Submit one job; the same as ``client.jobs.submit``."""
        return self.jobs.submit(
            queue,
            data,
            metadata=metadata,
            webhooks=webhooks,
            task=task,
            idempotency_key=idempotency_key,
            **options,
        )

    def application(self) -> dict[str, Any]:
        """The caller's own settings, usage and key."""
        return self._transport.request("GET", "/api/application")

    def workers(self) -> Iterator[dict[str, Any]]:
        """Workers that were seen lately."""
        return self._transport.pages("/api/workers", "workers", {})

    def operation(self, operation_id: str) -> dict[str, Any]:
        """How far a bulk operation has come."""
        return self._transport.request("GET", f"/api/operations/{segment(operation_id)}")

    def health(self) -> dict[str, Any]:
        """The answer of /health; raises Refusal while the service is not healthy."""
        return self._transport.request("GET", "/health", safe=False)

    def events(self, *, last_event_id: str | None = None, **filters: Any) -> Iterator[dict[str, Any]]:
        """The application's events as they happen, until the connection ends."""
        return events(self._transport, last_event_id, filters)

    def close(self) -> None:
        """Close the kept connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
