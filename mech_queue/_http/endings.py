"""Reports how jobs ended: whatever gathers while one request is on its way goes into the next.

So one job at a time is reported at once, and a thousand tiny ones need few requests. An ending is
repeated until the service took it or said that the job is not ours any more.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mech_queue._http.transport import Unreachable, encode, pause_s
from mech_queue._http.work import Work
from mech_queue.model.errors import Code, Refusal

log = logging.getLogger("mech_queue.worker")

MOST_AT_ONCE = 100
MOST_BYTES = 512 * 1024
"""Bytes of one request: half of what the service takes by default."""

GIVE_UP_S = 120.0
"""How long to try while the service cannot be reached and the worker is stopping."""

_PASSING = frozenset({Code.STORE_UNAVAILABLE, Code.STORE_FULL, Code.RATE_LIMITED, Code.INTERNAL})


@dataclass(slots=True)
class _Ending:
    job_id: str
    report: dict[str, Any]
    size: int
    done: Callable[[], None]


class Endings:
    """``add`` from any thread; ``finish`` sends what is left and ends the thread."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting: list[_Ending] = []
        self._changed = threading.Condition()
        self._finishing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._finishing.clear()
        self._thread = threading.Thread(target=self._send, name="mech-queue-endings", daemon=True)
        self._thread.start()

    def add(self, job_id: str, report: dict[str, Any], done: Callable[[], None]) -> None:
        """Send this ending soon; ``done`` is called when it is settled. Never raises for a bad result."""
        try:
            size = len(encode(report))
        except (TypeError, ValueError, RecursionError) as error:
            report = _failure(report, f"the result is not JSON: {error}")
            size = len(encode(report))
        with self._changed:
            self._waiting.append(_Ending(job_id, report, size, done))
            self._changed.notify()

    def finish(self) -> None:
        """Send the rest and return."""
        self._finishing.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _send(self) -> None:
        tries, waited = 0, 0.0
        batch: list[_Ending] = []
        while batch or (batch := self._take()):
            left = self._report(batch)
            if len(left) < len(batch):
                tries, waited = 0, 0.0
            batch = left
            if batch:
                pause = pause_s(tries)
                if self._finishing.is_set() and waited + pause > GIVE_UP_S:
                    log.error("%d endings could not be reported; those jobs will run again", len(batch))
                    return
                threading.Event().wait(pause)
                tries, waited = tries + 1, waited + pause

    def _take(self) -> list[_Ending]:
        """The next request's endings; empty when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finishing.is_set())
            count, size = 0, 0
            for ending in self._waiting[:MOST_AT_ONCE]:
                size += ending.size
                if count and size > MOST_BYTES:
                    break
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            return batch

    def _report(self, batch: list[_Ending]) -> list[_Ending]:
        """Send them; those that must be sent again."""
        try:
            answers = self._work.update_many([ending.report for ending in batch])
        except Unreachable as error:
            log.warning("%d endings wait, the service does not answer: %s", len(batch), error)
            return batch
        except Refusal as refusal:
            if refusal.code is Code.TOO_LARGE and len(batch) == 1:
                batch[0].report = _failure(batch[0].report, "the result is larger than the service accepts")
                batch[0].size = 1
            elif refusal.code is Code.TOO_LARGE:
                return [left for ending in batch for left in self._report([ending])]
            else:
                log.warning("%d endings wait: %s", len(batch), refusal)
            return batch
        return [ending for ending, answer in zip(batch, answers, strict=True) if not self._settled(ending, answer)]

    def _settled(self, ending: _Ending, answer: dict[str, Any] | Refusal) -> bool:
        if isinstance(answer, Refusal):
            if answer.code in _PASSING:
                return False
            log.warning("the ending of job %s was refused: %s", ending.job_id, answer)
        ending.done()
        return True


def _failure(report: dict[str, Any], sentence: str) -> dict[str, Any]:
    kept = {name: report[name] for name in ("jobId", "leaseToken")}
    return {**kept, "status": "failed", "error": sentence, "retry": False}
