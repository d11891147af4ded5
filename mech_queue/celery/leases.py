"""The lease thread: one per worker process, whatever the pool.

A thread of its own, because solo and a busy main process run no timers; it lives through a warm shutdown,
so that a long job is not lost while the worker waits for it. It renews what runs here, stops what was
cancelled or lost, and gives back what a lost claim answer may have taken.
"""

import contextlib
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from mech_queue.celery.board import Entry, process_by, processes
from mech_queue.celery.held import Place
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.model.job import State
from mech_queue.services import jobs, workers

if TYPE_CHECKING:
    from mech_queue.celery.requests import JobRequest
    from mech_queue.celery.runtime import Runtime

logger = get_logger("mech_queue")

SHOW_S = 30.0
"""An idle worker says so often that it is there: a worker counts as gone after a minute."""

LOST_CONFIRMED_S = 0.5
"""A child that ended a moment ago has given its lease up before we hear of it: look once more after this."""


class LeaseThread:
    """Renews the leases of ``runtime.running`` until the process ends; ``pool`` is the worker's pool.

    It also tells the store that the worker is there, for the ``places`` that it serves now.
    """

    def __init__(self, runtime: "Runtime", pool: Any, worker_id: str, places: Callable[[], list[Place]]) -> None:
        self._runtime = runtime
        self._pool = pool
        self._worker_id = worker_id
        self._places = places
        self._shown = -SHOW_S
        self._stubborn: dict[Any, tuple[float, JobRequest]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="mech-queue-leases")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Does it run?"""
        return self._thread.is_alive()

    def _run(self) -> None:
        options = self._runtime.options
        pause = options.renew_seconds
        while True:
            time.sleep(pause)
            pause = options.renew_seconds
            try:
                if self._renew():
                    pause = min(pause, LOST_CONFIRMED_S)
                self._runtime.gate.recover(self._worker_id)
                self._show()
                if self._kill_stubborn():
                    pause = min(pause, 0.5)
            except StoreStopped as stopped:
                self._runtime.refuse(str(stopped))
            except Exception as error:
                # The next round comes well before the lease ends.
                logger.warning("Leases were not renewed: %s", error)
                pause = min(pause, 1.0)

    def _show(self) -> None:
        if time.monotonic() - self._shown < SHOW_S:
            return
        by_application: dict[str, list[str]] = defaultdict(list)
        for place in self._places():
            by_application[place.application_id].append(place.queue)
        for application_id, names in by_application.items():
            workers.seen(self._runtime.store, application_id, "native", self._worker_id, names)
        self._shown = time.monotonic()

    def _renew(self) -> bool:
        """Renew all; True when something looks lost and must be looked at again soon."""
        by_application: dict[str, list[JobRequest]] = defaultdict(list)
        for request in self._runtime.running.all():
            if self._abandoned(request):
                logger.warning("Job %s was never accepted by the pool: given back", request.id)
                request.give_back()
            else:
                by_application[request.held.application_id].append(request)
        untold = self._untold()
        suspicious, trouble = False, None
        for application_id in {*by_application, *untold}:
            try:
                suspicious |= self._renew_of(
                    application_id, by_application[application_id], untold.get(application_id, [])
                )
            except Refusal as refusal:  # a node of a cluster: the applications on others must be renewed
                trouble = refusal
        if trouble is not None:
            raise trouble
        return suspicious

    def _untold(self) -> dict[str, list[Entry]]:
        """By application: what processes of the pool run by themselves and the main loop has not heard of. That may
        stand still for longer than a lease, for its broker or in a receiver of the user's."""
        by_application: dict[str, list[Entry]] = defaultdict(list)
        for entry in self._runtime.board.running(self._pool):
            if not self._runtime.running.knows(entry.job_id, entry.lease_token):
                by_application[entry.application_id].append(entry)
        return by_application

    def _renew_of(self, application_id: str, requests: "list[JobRequest]", untold: list[Entry]) -> bool:
        answers = jobs.renew(
            self._runtime.store,
            application_id,
            [(request.id, request.held.job.lease_token) for request in requests]
            + [(entry.job_id, entry.lease_token) for entry in untold],
            self._runtime.options.lease_ms,
        )
        suspicious = False
        for request, answer in zip(requests, answers, strict=False):
            if answer == "ok":
                request.lost_since = None
            elif not request.held.gone and self._runtime.running.holds(request):
                suspicious |= self._not_ours(request, answer)
        return suspicious

    def _abandoned(self, request: "JobRequest") -> bool:
        """Handed to the pool a whole lease ago and never accepted: the pool has dropped it (a broker
        reconnect, a child that ended between two jobs). We would renew it for ever."""
        if not request.claimed_in_main or request.time_start is not None:
            return False
        # As long as the main loop stands still it cannot have heard of the acceptance.
        return self._runtime.turned_at - request.claimed_at > self._runtime.options.lease_seconds

    def _not_ours(self, request: "JobRequest", answer: str) -> bool:
        """Stop a body whose job was cancelled or has gone. True: not sure yet, look again."""
        if request.is_followed(self._pool):
            return False
        now = time.monotonic()
        if request.lost_since is None:
            request.lost_since = now
        if answer == "lost" and now - request.lost_since < LOST_CONFIRMED_S:
            return True
        outcome = None
        if answer == "lost":
            with contextlib.suppress(Exception):
                found = jobs.get(self._runtime.store, request.held.application_id, request.id)
                outcome = found.state
                if outcome is State.COMPLETED and found.attempt == request.held.job.attempt:
                    return False  # its own body has; the answer was lost, or we hear of it in a moment
        # Under the lock its end waits for us: the child we signal cannot have got the next job. Nor has it gone on by
        # itself: the end of a job that is not ours any more claims nothing.
        with self._runtime.running.lock:
            if self._runtime.running.holds(request) and not request.is_followed(self._pool):
                request.held.gone = "cancelled" if answer == "cancelled" else "lost"
                request.held.outcome = outcome if outcome and outcome.ended else None
                self._stop_body(request)
        return False

    def _stop_body(self, request: "JobRequest") -> None:
        logger.warning("Job %s[%s] is %s: stopping its body", request.name, request.id, request.held.gone)
        process = self._process_of(request)
        try:
            request.terminate(self._pool)
        except NotImplementedError:
            # Threads and solo cannot stop a body. It runs on without a lease; what it reports is refused, and
            # current_job().check_cancelled() tells it.
            logger.warning("Job %s: this pool cannot stop a body; it must look by itself", request.id)
            self._runtime.running.remove(request)
        except Exception:
            logger.exception("Job %s could not be stopped", request.id)
        else:
            if process is not None:
                self._stubborn[process] = (time.monotonic() + self._runtime.options.kill_after_seconds, request)

    def _process_of(self, request: "JobRequest") -> Any:
        """The prefork child that runs the body."""
        return process_by(self._pool, request.worker_pid) if request.claimed_in_main else None

    def _kill_stubborn(self) -> bool:
        """SIGKILL for children that ignored SIGTERM. The pool removes ended children from its list, so a
        child still in it is the same process. True: some are left."""
        children = processes(self._pool)
        for child, (deadline, request) in list(self._stubborn.items()):
            if child not in children or not request.is_in_pool():  # gone, or at another job
                del self._stubborn[child]
            elif time.monotonic() > deadline:
                logger.warning("Process %s ignored SIGTERM: killed", child.pid)
                del self._stubborn[child]
                os.kill(child.pid, signal.SIGKILL)
        return bool(self._stubborn)
