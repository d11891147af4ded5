"""The gate: asks the store for the next job, and never raises.

A store error inside the claim must not reach Celery, which would take a redis error for a lost broker and
reconnect in a loop, and any other exception for the end of the worker. So everything is caught here, and a
wake-up without an answer is dropped: wake-ups are finite and the store's repair pushes new ones, which
makes dropping them both harmless and the only needed back pressure (no sleep in the main process).
"""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from celery.utils.log import get_logger

from mech_queue.celery.held import Place
from mech_queue.celery.options import Options
from mech_queue.model.errors import Code, Refusal, StoreStopped
from mech_queue.model.job import Claim, ClaimedJob, Report
from mech_queue.services import jobs
from mech_queue.store import Store

logger = get_logger("mech_queue")

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
LOST_ANSWERS_KEPT = 100


@dataclass(slots=True)
class _Closed:
    """No claims before ``until`` (monotonic seconds); the next ``pause`` is twice the last one."""

    until: float = 0.0
    pause: float = 0.0


class Gate:
    """Claims for one worker process; used by several threads."""

    def __init__(self, store: Callable[[], Store], options: Options, refuse: Callable[[str], None]) -> None:
        self._store = store
        self._options = options
        self._refuse = refuse
        self._empty: dict[Place, float] = {}
        self._closed: dict[str, _Closed] = defaultdict(_Closed)  # by part of the store: parts fail by themselves
        self._lost: dict[Place, list[tuple[str, float]]] = defaultdict(list)
        self._lock = threading.Lock()

    def claim(self, place: Place, received: float, worker_id: str) -> Claim | None:
        """Take the next job of ``place`` for a wake-up that arrived at ``received`` (monotonic seconds).

        Returns a claim of one job, or None: nothing to do.
        """
        asked = time.monotonic()
        # The store was asked after this wake-up arrived and had nothing: whatever became startable since
        # has pushed wake-ups of its own.
        closed = self._closed[self._store().part_of(place.application_id)]
        if received < self._empty.get(place, 0.0) or asked < closed.until:
            return None
        nonce = self._nonce(place)
        try:
            claim = self._ask(place, worker_id, nonce)
        except Exception as error:
            self._failed(place, nonce, error)
            return None
        closed.pause = 0.0
        if not claim.jobs:
            self._empty[place] = asked
            return None
        return claim

    def _ask(self, place: Place, worker_id: str, nonce: str) -> Claim:
        """One job at most; with the nonce of a lost answer, the job that it took."""
        return jobs.claim(
            self._store(),
            place.application_id,
            [place.queue],
            limit=1,
            lease_ms=self._options.lease_ms,
            worker_id=worker_id,
            nonce=nonce,
            kind="native",
        )

    def _nonce(self, place: Place) -> str:
        """That of a claim whose answer was lost, so that its job is found again; else a new one."""
        if self._lost:
            with self._lock:
                lost = self._lost.get(place)
                if lost:
                    return lost.pop()[0]
        return new_nonce()

    def _failed(self, place: Place, nonce: str, error: Exception) -> None:
        if isinstance(error, StoreStopped):
            self._refuse(str(error))
            return
        now = time.monotonic()
        if isinstance(error, Refusal) and error.code not in (Code.STORE_UNAVAILABLE, Code.STORE_FULL):
            logger.warning("Nothing to claim from %s: %s", place.broker_queue, error)
            self._empty[place] = now
            return
        self.lost(place, nonce)
        with self._lock:
            closed = self._closed[self._store().part_of(place.application_id)]
            if now >= closed.until:
                closed.pause = min(max(closed.pause * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                closed.until = now + closed.pause
                logger.warning("The store did not answer (%r): no claims for %.2f s.", error, closed.pause)

    def lost(self, place: Place, nonce: str) -> None:
        """The answer to a claim was lost. It may have been carried out: its nonce gets the same job again."""
        with self._lock:
            if len(self._lost[place]) < LOST_ANSWERS_KEPT:
                self._lost[place].append((nonce, time.monotonic()))

    def recover(self, worker_id: str, older_than_s: float = 1.0) -> int:
        """Give back what lost answers may have claimed, when no wake-up has asked for it again.

        Called by the lease thread. Returns how many jobs were given back.
        """
        released = 0
        lost = self._take_lost(time.monotonic() - older_than_s)
        while lost:
            place, nonce = lost.pop()
            try:
                claim = self._ask(place, worker_id, nonce)
                for job in claim.jobs:
                    jobs.report(self._store(), place.application_id, release_of(job))
                    released += 1
            except Exception as error:
                self._failed(place, nonce, error)
                break
        for place, nonce in lost:
            self.lost(place, nonce)
        return released

    def _take_lost(self, before: float) -> list[tuple[Place, str]]:
        taken: list[tuple[Place, str]] = []
        with self._lock:
            for place, lost in list(self._lost.items()):
                taken += [(place, nonce) for nonce, at in lost if at < before]
                kept = [entry for entry in lost if entry[1] >= before]
                if kept:
                    self._lost[place] = kept
                else:
                    del self._lost[place]
        return taken


def new_nonce() -> str:
    """Names one claim, so that it can be made again when its answer is lost."""
    return secrets.token_urlsafe(16)


def release_of(job: ClaimedJob) -> Report:
    """Give a job back that was not started: its attempt does not count."""
    return Report(job.id, "release", job.lease_token)
