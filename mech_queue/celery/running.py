"""The jobs that this worker process holds: what the lease thread renews."""

import threading
from typing import Any

JobRequest = Any
"""``requests.JobRequest``; not imported, so that imports run one way."""


class RunningJobs:
    """Job id -> request. ``lock`` is held while a body is being stopped, so that its end waits for it:
    otherwise a signal could hit the pool process when it has already started the next job."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._requests: dict[str, JobRequest] = {}

    def add(self, request: JobRequest) -> None:
        """From now on its lease is renewed."""
        with self.lock:
            self._requests[request.id] = request

    def remove(self, request: JobRequest) -> None:
        """It ended here."""
        with self.lock:
            if self.holds(request):
                del self._requests[request.id]

    def find(self, job_id: str) -> JobRequest | None:
        """The attempt of this job that runs here."""
        return self._requests.get(job_id)

    def knows(self, job_id: str, lease_token: str) -> bool:
        """Does this attempt run here?"""
        request = self._requests.get(job_id)
        return request is not None and request.held.job.lease_token == lease_token

    def holds(self, request: JobRequest) -> bool:
        """Is this very attempt still running here?"""
        return self._requests.get(request.id) is request

    def all(self) -> list[JobRequest]:
        """A snapshot."""
        with self.lock:
            return list(self._requests.values())

    def take_all(self) -> list[JobRequest]:
        """Empty it and return what was in it."""
        with self.lock:
            requests = list(self._requests.values())
            self._requests.clear()
            return requests
