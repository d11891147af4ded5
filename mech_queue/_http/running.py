"""The job that a worker's function holds in its hands, and the two things that a function may raise."""

import logging
import threading
from typing import Any

from mech_queue._http.transport import Unreachable
from mech_queue._http.work import TakenJob, Work
from mech_queue.model.errors import Code, Refusal

log = logging.getLogger("mech_queue.worker")

_GONE = frozenset({Code.LEASE_LOST, Code.JOB_ENDED, Code.JOB_CANCELLED, Code.NOT_FOUND, Code.JOB_TAKEN})


class PermanentFailure(Exception):
    """Raise it for a failure that no repetition can mend. ``error``: any JSON value, default the text."""

    def __init__(self, message: str, error: Any = None) -> None:
        super().__init__(message)
        self.error = message if error is None else error


class JobCancelled(Exception):
    """Raised by ``check_cancelled``: the job is no longer ours, whatever we would report."""


class RunningJob:
    """The job that a function works on."""

    def __init__(self, work: Work, taken: TakenJob, lease_s: int) -> None:
        self._work = work
        self._lease_s = lease_s
        self._stop = threading.Event()
        self.id = taken.id
        self.queue = taken.queue
        self.lease_token = taken.lease_token
        self.data: Any = taken.data
        self.metadata = taken.metadata
        self.attempt = taken.attempt
        self.raw = taken.raw

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} of {self.queue}, attempt {self.attempt}>"

    @property
    def parents(self) -> dict[str, Any]:
        """Parent id -> its result, for a job with ``dependsOn``."""
        return self.raw.get("parents") or {}

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, or its lease was lost: stop, nobody waits for the result."""
        return self._stop.is_set()

    def check_cancelled(self) -> None:
        """Raise JobCancelled if so; call it now and then in long loops."""
        if self._stop.is_set():
            raise JobCancelled(f"job {self.id} was cancelled, or is somebody else's by now")

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Sleep up to ``timeout_s`` seconds, but wake at once when it is cancelled; True if so."""
        return self._stop.wait(timeout_s)

    def progress(self, value: Any, *, metadata: dict[str, Any] | None = None) -> None:
        """Report progress (any JSON value, usually 0 to 100) and merge metadata.

        Raises JobCancelled when the job is not ours any more. Trouble on the way is logged only: progress
        is no reason to fail a job.
        """
        more = {} if metadata is None else {"metadata": metadata}
        try:
            self._work.progress(self.id, value, lease_token=self.lease_token, **more)
        except Refusal as refusal:
            if refusal.code not in _GONE:
                raise
            self._stop.set()
            self.check_cancelled()
        except Unreachable as error:
            log.warning("progress of job %s was not delivered: %s", self.id, error)

    def log(self, *lines: str) -> None:
        """Append lines to the job's log at the service."""
        self._work.log(self.id, lines)

    def renew(self) -> None:
        """Renew the lease (the worker's own thread does this all the time)."""
        try:
            lease = self._work.heartbeat(self.id, self.lease_token, lease_s=self._lease_s)
        except Refusal as refusal:
            if refusal.code in _GONE:
                self._stop.set()
            return
        if lease.cancelled:
            self._stop.set()
