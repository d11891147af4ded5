"""A worker over HTTP: it takes jobs of one or several queues, runs your functions, reports what came out.

    from mech_queue.client import Client
    from mech_queue.worker import Worker

    worker = Worker(Client("http://localhost:3003", "sk_…"), concurrency=8)

    @worker.queue("email")
    def send(job):
        job.progress(50)
        return {"sent": job.data["to"]}

    worker.run()

What a function returns is the job's result; what it raises is a failure, which is tried again if the job
has attempts left. ``PermanentFailure`` is not tried again. SIGTERM and Ctrl-C let running jobs finish;
a second one leaves at once, and the jobs come back when their leases end.

The threads: the caller of ``run`` claims, ``concurrency`` threads run functions, one reports endings
(many in one request), one renews leases. Needs ``requests`` only.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

from mech_queue._http.endings import Endings
from mech_queue._http.running import JobCancelled, PermanentFailure, RunningJob
from mech_queue._http.transport import Unreachable, pause_s
from mech_queue.client import Client
from mech_queue.model.errors import Code, Refusal

__all__ = ["JobCancelled", "PermanentFailure", "RunningJob", "Worker"]

log = logging.getLogger("mech_queue.worker")

LEASE_S = 60
"""A worker that died gives its jobs back after at most this long."""

POLL_S = 5
"""How long one claim waits for work. A stop has to wait for it, hence not the 30 s that are possible."""

MOST_AT_ONCE = 100
"""The service hands out no more jobs in one claim."""

HEARTBEATS_PER_LEASE = 3

_HOPELESS = frozenset({Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.QUEUE_NOT_ALLOWED, Code.INVALID})

Function = Callable[[RunningJob], Any]
F = TypeVar("F", bound=Function)


class Worker:
    """Works off queues until it is stopped.

    ``concurrency``: functions at the same time, in threads. ``lease_s``: 5 to 86,400 seconds.
    ``prefetch``: jobs taken beyond the running ones; helps with tiny jobs, else leave it at 0.
    ``worker_id``: what ``GET /api/workers`` shows; default host and process id.
    """

    def __init__(
        self,
        client: Client,
        *,
        concurrency: int = 4,
        lease_s: int = LEASE_S,
        poll_s: int = POLL_S,
        prefetch: int = 0,
        worker_id: str | None = None,
    ) -> None:
        self.client = client
        self.concurrency = concurrency
        self.lease_s = lease_s
        self.poll_s = poll_s
        self.worker_id = worker_id or f"{socket.gethostname()}:{os.getpid()}"
        self._functions: dict[str, Function] = {}
        self._stopping = False
        self._finished = threading.Event()
        self._free = concurrency + prefetch
        self._changed = threading.Condition()
        self._running: dict[str, RunningJob] = {}
        self._endings = Endings(client.work)

    def queue(self, name: str) -> Callable[[F], F]:
        """Decorator: run this function for the jobs of a queue. Earlier names are preferred."""
        if not isinstance(name, str):
            raise TypeError('the decorator needs the name of a queue: @worker.queue("email")')

        def register(function: F) -> F:
            self._functions[name] = function
            return function

        return register

    def run(self, *, signals: bool = True) -> None:
        """Work until ``stop`` (or SIGTERM, SIGINT); returns when all that runs has ended.

        ``signals=False``: leave the process's signals alone (needed outside the main thread).
        Raises Refusal when the key is not allowed to work at all.
        """
        if not self._functions:
            raise ValueError("register at least one function with @worker.queue(name)")
        previous = self._catch_signals() if signals else {}
        renewer = threading.Thread(target=self._renew, name="mech-queue-leases", daemon=True)
        self._endings.start()
        renewer.start()
        try:
            with ThreadPoolExecutor(self.concurrency, thread_name_prefix="mech-queue") as pool:
                self._claim_until_stopped(pool)
        finally:
            self.stop()
            self._endings.finish()
            self._finished.set()
            renewer.join()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Take no more jobs; ``run`` returns when the running ones have ended.

        Callable from any thread and from a signal handler, which may interrupt itself: ``_changed`` may be taken again
        by the thread that has it, unlike the lock of a threading.Event.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    # -- claiming

    def _claim_until_stopped(self, pool: ThreadPoolExecutor) -> None:
        failures = 0
        while not self._stopping:
            free = self._wait_for_room()
            if self._stopping:
                return
            try:
                taken = self.client.work.claim(
                    list(self._functions),
                    limit=min(free, MOST_AT_ONCE),
                    wait_s=self.poll_s,
                    lease_s=self.lease_s,
                    worker_id=self.worker_id,
                )
            except (Refusal, Unreachable) as error:
                if isinstance(error, Refusal) and error.code in _HOPELESS:
                    self.stop()
                    raise
                log.warning("cannot claim: %s", error)
                wished = error.retry_after if isinstance(error, Refusal) else None
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, pause_s(failures, wished))
                failures += 1
                continue
            failures = 0
            for one in taken:
                job = RunningJob(self.client.work, one, self.lease_s)
                with self._changed:
                    self._free -= 1
                    self._running[job.id] = job
                pool.submit(self._work, job)

    def _wait_for_room(self) -> int:
        """How many jobs may be taken now; 0 only when the worker is stopping."""
        with self._changed:
            while not self._free and not self._stopping:
                self._changed.wait(1)
            return self._free

    # -- running

    def _work(self, job: RunningJob) -> None:
        try:
            if not job.cancelled:
                self._endings.add(job.id, self._outcome(job), lambda: self._forget(job))
                return
        except JobCancelled:
            log.info("job %s was cancelled or lost, its function stopped", job.id)
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
        self._forget(job)

    def _outcome(self, job: RunningJob) -> dict[str, Any]:
        """Run the function; the report of its ending. JobCancelled passes through."""
        report: dict[str, Any] = {"jobId": job.id, "leaseToken": job.lease_token}
        try:
            return {**report, "status": "completed", "result": self._functions[job.queue](job)}
        except JobCancelled:
            raise
        except PermanentFailure as failure:
            return {**report, "status": "failed", "error": failure.error, "retry": False}
        except BaseException as error:
            log.exception("job %s of %s failed", job.id, job.queue)
            return {**report, "status": "failed", "error": f"{type(error).__name__}: {error}"}

    def _forget(self, job: RunningJob) -> None:
        with self._changed:
            self._running.pop(job.id, None)

    # -- leases and signals

    def _renew(self) -> None:
        """Renew every held lease in turn, until all endings are reported."""
        while not self._finished.wait(self.lease_s / HEARTBEATS_PER_LEASE):
            with self._changed:
                held = list(self._running.values())
            for job in held:
                if job.id not in self._running:
                    continue
                try:
                    job.renew()
                except Unreachable as error:
                    log.warning("the lease of job %s was not renewed: %s", job.id, error)

    def _catch_signals(self) -> dict[int, Any]:
        def leave(number: int, _: FrameType | None) -> None:
            if self._stopping:
                log.warning("stopping at once: unfinished jobs come back when their leases end")
                os._exit(128 + number)
            log.info("stopping: running jobs finish first; once more to leave at once")
            self.stop()

        return {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
