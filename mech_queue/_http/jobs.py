"""Jobs as a caller sees them: submit, read, wait, steer."""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mech_queue._http.transport import Transport, decode, refusal_from, segment
from mech_queue.model.errors import Refusal

LONGEST_WAIT_S = 30
"""What the service holds one request for at most."""

ENDED = ("completed", "failed", "cancelled")


class JobHandle:
    """A job's id and what can be done with it; made by ``submit`` or ``client.jobs.handle(id)``."""

    def __init__(self, jobs: "Jobs", job_id: str, *, deduplicated: bool = False, replayed: bool = False) -> None:
        self._jobs = jobs
        self.id = job_id
        self.deduplicated = deduplicated
        """A job with the same ``dedupeKey`` was there already; this is that one."""
        self.replayed = replayed
        """The service answered from its memory of the Idempotency-Key: the job had been submitted before."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def get(self) -> "Job":
        """The job as it is now."""
        return self._jobs.get(self.id)

    def wait(self, timeout_s: float | None = None) -> "Job":
        """Wait until the job has ended (well or badly: look at ``status``); None: without limit.

        Raises TimeoutError after ``timeout_s`` seconds.
        """
        return self._jobs.wait(self.id, timeout_s)

    def cancel(self) -> None:
        """End it at once, whatever it is doing."""
        self._jobs.act(self.id, "cancel")

    def retry(self) -> None:
        """Run an ended job again, with its attempts counted from zero."""
        self._jobs.act(self.id, "retry")

    def promote(self) -> None:
        """Make a delayed job start as soon as a worker is free."""
        self._jobs.act(self.id, "promote")

    def delete(self) -> None:
        """Forget an ended or waiting job."""
        self._jobs.delete(self.id)

    def change(self, **changes: Any) -> "Job":
        """Change ``priority``, ``runAt`` or ``metadata`` (merged; None removes a key) while it waits."""
        return self._jobs.change(self.id, **changes)

    def set_webhooks(self, webhooks: Mapping[str, str | None]) -> dict[str, str]:
        """Merge webhooks (None removes one); the answer is what now holds."""
        return self._jobs.set_webhooks(self.id, webhooks)

    def explain(self) -> dict[str, Any]:
        """Why it is not running, in words and codes."""
        return self._jobs.explain(self.id)

    def logs(self) -> list[Any]:
        """The lines that its worker logged."""
        return self._jobs.logs(self.id)


class Job(JobHandle):
    """A job as it was when it was read. ``raw`` holds the whole object of the wire."""

    def __init__(self, jobs: "Jobs", raw: Mapping[str, Any]) -> None:
        super().__init__(jobs, raw["id"])
        self.raw = dict(raw)
        self.queue: str = raw["queue"]
        self.task: str | None = raw.get("task")
        self.status: str = raw["status"]
        self.data: Any = raw.get("data")
        self.metadata: dict[str, Any] = raw.get("metadata") or {}
        self.result: Any = raw.get("result")
        self.error: Any = raw.get("error")
        self.error_code: str | None = raw.get("errorCode")
        self.progress: Any = raw.get("progress")
        self.priority: int = raw.get("priority") or 0
        self.attempt: int = raw.get("attempt") or 0
        self.max_attempts: int | None = raw.get("maxAttempts")
        self.stalls: int = raw.get("stalls") or 0
        self.worker_id: str | None = raw.get("workerId")
        self.webhooks: dict[str, str] = raw.get("webhooks") or {}
        self.timestamps: dict[str, str | None] = raw.get("timestamps") or {}
        self.history: list[dict[str, Any]] = raw.get("history") or []

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.status} in {self.queue}>"

    @property
    def ended(self) -> bool:
        """Whether no worker will touch it again unless it is retried."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job of a batch. ``options`` as in the API's documentation (priority, delay, attempts …)."""

    queue: str
    data: Any
    metadata: Mapping[str, Any] | None = None
    webhooks: Mapping[str, str] | None = None
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ref: str | None = None

    def body(self) -> dict[str, Any]:
        """The object that stands on the wire; what was not given is not sent."""
        found: dict[str, Any] = {"queue": self.queue, "data": self.data}
        for name in ("metadata", "webhooks", "task", "ref"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.options:
            found["options"] = dict(self.options)
        return found


class Jobs:
    """``client.jobs``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

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
        """Submit one job; ``options`` are the API's: ``priority=5, delay=60_000, attempts=3`` …

        Safe to repeat: each call carries an Idempotency-Key (its own, unless you give one), so a lost
        answer never makes a second job.
        """
        key = idempotency_key or uuid.uuid4().hex
        body = NewJob(queue, data, metadata, webhooks, task, options).body()
        answer = self._transport.send("POST", "/api/jobs", body, headers={"Idempotency-Key": key}, safe=True)
        found = decode(answer)
        return JobHandle(
            self,
            found["jobId"],
            deduplicated=bool(found.get("deduplicated")),
            replayed=answer.headers.get("Idempotency-Replayed") == "true",
        )

    def submit_many(self, jobs: Iterable[NewJob | Mapping[str, Any]]) -> list[JobHandle | Refusal]:
        """Submit up to 1,000 jobs in one request: per job its handle or its refusal, in order.

        Not repeated after a lost answer; give the jobs a ``dedupeKey`` and repeat it yourself.
        """
        bodies = [one.body() if isinstance(one, NewJob) else dict(one) for one in jobs]
        results = self._transport.request("POST", "/api/jobs/batch", {"jobs": bodies})["results"]
        return [
            JobHandle(self, one["jobId"], deduplicated=bool(one.get("deduplicated")))
            if one["success"]
            else refusal_from(one)
            for one in results
        ]

    def handle(self, job_id: str) -> JobHandle:
        """A handle on a job whose id you kept; asks nothing yet."""
        return JobHandle(self, job_id)

    def get(self, job_id: str, *, wait_s: int = 0) -> Job:
        """The job; with ``wait_s`` (at most 30) as soon as it ends, or as it is then."""
        query = {"wait": wait_s} if wait_s else None
        return Job(self, self._transport.request("GET", _path(job_id), query=query, wait_s=wait_s)["job"])

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """See ``JobHandle.wait``."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            asked_at = time.monotonic()
            left = LONGEST_WAIT_S if end is None else end - asked_at
            job = self.get(job_id, wait_s=max(0, min(LONGEST_WAIT_S, int(left))))
            if job.ended:
                return job
            now = time.monotonic()
            if end is not None and now >= end:
                raise TimeoutError(f"job {job_id} is {job.status} after {timeout_s} s")
            if now - asked_at < 1:  # the service has no waiter free, or less than a second is left
                time.sleep(0.5 if end is None else max(0.0, min(0.5, end - now)))

    def search(
        self,
        *,
        queue: str | None = None,
        status: str | Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        task: str | None = None,
        submitted_after: str | None = None,
        submitted_before: str | None = None,
        order: str | None = None,
        page_size: int = 100,
    ) -> Iterator[Job]:
        """All jobs that fit, page by page. ``metadata`` values that are strings match strings only."""
        query: dict[str, Any] = {
            "queue": queue,
            "status": status,
            "task": task,
            "submittedAfter": submitted_after,
            "submittedBefore": submitted_before,
            "order": order,
            "limit": page_size,
        }
        for name, value in (metadata or {}).items():
            query[f"metadata.{name}"] = f'"{value}"' if isinstance(value, str) else value
        for raw in self._transport.pages("/api/jobs", "jobs", query):
            yield Job(self, raw)

    def act(self, job_id: str, action: str) -> dict[str, Any]:
        """``cancel``, ``retry`` or ``promote``."""
        return self._transport.request("POST", f"{_path(job_id)}/{action}")

    def delete(self, job_id: str) -> None:
        """Forget an ended or waiting job."""
        self._transport.request("DELETE", _path(job_id))

    def change(self, job_id: str, **changes: Any) -> Job:
        """See ``JobHandle.change``."""
        self._transport.request("PATCH", _path(job_id), changes, safe=True)
        return self.get(job_id)

    def set_webhooks(self, job_id: str, webhooks: Mapping[str, str | None]) -> dict[str, str]:
        """See ``JobHandle.set_webhooks``."""
        body = {"webhooks": dict(webhooks)}
        found = self._transport.request("POST", f"{_path(job_id)}/webhook", body, safe=True)
        return dict(found["webhooks"])

    def explain(self, job_id: str) -> dict[str, Any]:
        """Why it is not running, in words and codes."""
        return self._transport.request("GET", f"{_path(job_id)}/explain")

    def logs(self, job_id: str) -> list[Any]:
        """The lines that its worker logged."""
        return list(self._transport.pages(f"{_path(job_id)}/logs", "logs", {}))

    def bulk(self, action: str, where: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """``retry``, ``cancel``, ``delete`` or ``promote`` all jobs that fit ``where`` (the query's names).

        With ``dry_run`` the answer holds their number, else the id of an operation (``client.operation``).
        """
        body = {"action": action, "filter": dict(where), "dryRun": dry_run}
        return self._transport.request("POST", "/api/jobs/actions", body)


def _path(job_id: str) -> str:
    return f"/api/jobs/{segment(job_id)}"
