"""What a worker says: take jobs, report on them, keep their leases."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mech_queue._http.transport import Transport, refusal_from, segment
from mech_queue.model.errors import Refusal


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job whose lease this process holds. ``raw`` is the whole object of the wire."""

    id: str
    queue: str
    lease_token: str
    data: Any
    metadata: dict[str, Any]
    attempt: int
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """Answer to a heartbeat."""

    cancelled: bool
    expires_at: str | None


class Work:
    """``client.work``: the calls that ``mech_queue.worker.Worker`` is made of."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def claim(
        self,
        queues: str | Sequence[str],
        *,
        limit: int = 1,
        wait_s: int = 0,
        lease_s: int | None = None,
        worker_id: str | None = None,
    ) -> list[TakenJob]:
        """Take up to ``limit`` (≤ 100) jobs of one queue, or of several in order of preference.

        ``wait_s`` (≤ 30): how long to wait when there is nothing. Each call carries a nonce, so an answer
        that got lost on the way is asked for again and no job is left behind.
        """
        body: dict[str, Any] = {"limit": limit, "wait": wait_s, "nonce": uuid.uuid4().hex}
        if lease_s is not None:
            body["leaseSeconds"] = lease_s
        if worker_id is not None:
            body["workerId"] = worker_id
        path = "/api/queues/claim"
        if isinstance(queues, str):
            path = f"/api/queues/{segment(queues)}/claim"
        else:
            body["queues"] = list(queues)
        found = self._transport.request("POST", path, body, safe=True, wait_s=wait_s)
        return [_taken(raw) for raw in found["jobs"]]

    def start(self, job_id: str, *, lease_s: int | None = None, worker_id: str | None = None) -> dict[str, Any]:
        """Take one named job: the answer holds ``leaseToken``, ``leaseExpiresAt`` and ``attempt``."""
        body: dict[str, Any] = {"status": "started", "leaseSeconds": lease_s, "workerId": worker_id}
        return self._put(job_id, {name: value for name, value in body.items() if value is not None}, safe=False)

    def progress(self, job_id: str, progress: Any, *, lease_token: str | None = None, **more: Any) -> dict[str, Any]:
        """Report progress (any JSON value); also renews the lease."""
        return self._put(job_id, _report("progress", lease_token, progress=progress, **more), safe=False)

    def complete(self, job_id: str, result: Any = None, *, lease_token: str | None = None) -> dict[str, Any]:
        """End it well. Repeating it changes nothing."""
        return self._put(job_id, _report("completed", lease_token, result=result))

    def fail(self, job_id: str, error: Any, *, retry: bool = True, lease_token: str | None = None) -> dict[str, Any]:
        """Report a failure; ``retry=False``: for good, whatever attempts are left."""
        report = _report("failed", lease_token, error=error)
        if not retry:
            report["retry"] = False
        return self._put(job_id, report, safe=lease_token is not None)

    def update_many(self, updates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | Refusal]:
        """Report many (``{"jobId", "status", …}``) in one request: per item its answer or its refusal."""
        body = {"updates": [dict(one) for one in updates]}
        results = self._transport.request("POST", "/api/jobs/updates", body, safe=True)["results"]
        return [one if one["success"] else refusal_from(one) for one in results]

    def heartbeat(self, job_id: str, lease_token: str | None = None, *, lease_s: int | None = None) -> Lease:
        """Renew the lease; the answer says whether the job was cancelled meanwhile."""
        body: dict[str, Any] = {}
        if lease_token is not None:
            body["leaseToken"] = lease_token
        if lease_s is not None:
            body["leaseSeconds"] = lease_s
        found = self._transport.request("POST", f"/api/jobs/{segment(job_id)}/heartbeat", body, safe=True)
        return Lease(bool(found.get("cancelled")), found.get("leaseExpiresAt"))

    def log(self, job_id: str, lines: str | Sequence[str]) -> None:
        """Append lines to the job's log."""
        body = {"lines": [lines] if isinstance(lines, str) else list(lines)}
        self._transport.request("POST", f"/api/jobs/{segment(job_id)}/logs", body)

    def _put(self, job_id: str, body: Mapping[str, Any], *, safe: bool = True) -> dict[str, Any]:
        return self._transport.request("PUT", f"/api/jobs/{segment(job_id)}", body, safe=safe)


def _report(status: str, lease_token: str | None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"status": status, **more}
    if lease_token is not None:
        body["leaseToken"] = lease_token
    return body


def _taken(raw: dict[str, Any]) -> TakenJob:
    return TakenJob(
        id=raw["id"],
        queue=raw["queue"],
        lease_token=raw["leaseToken"],
        data=raw.get("data"),
        metadata=raw.get("metadata") or {},
        attempt=raw.get("attempt") or 1,
        raw=raw,
    )
