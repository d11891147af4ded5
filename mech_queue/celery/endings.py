"""How the end of an attempt reaches the store: reports, repeated for a while when the store is away."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from mech_queue.celery.held import HeldJob, Place, json_bytes
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import Claim, Report, Reported, State
from mech_queue.services import jobs

if TYPE_CHECKING:
    from mech_queue.store import Store

logger = get_logger("mech_queue")

PAUSES_S = (0.2, 0.4, 0.8)
"""Between the tries in the process of the body: with the store's timeout of a second about five seconds.
Signals swallow exceptions, so this is the only place that can try again; then the lease decides."""

MAIN_PAUSES_S = (0.2,)
"""The main process must not stand still for long: it serves every other slot."""

MESSAGE_CHARACTERS = 2_000
TRACEBACK_CHARACTERS = 6_000
"""An event carries up to 16 KiB of error; the end of a traceback says most."""

ENDED_ELSEWHERE = frozenset({Code.LEASE_LOST, Code.JOB_CANCELLED, Code.JOB_ENDED, Code.NOT_FOUND})


def error_json(kind: str, message: str, traceback: str = "") -> bytes:
    """The ``error`` of a job as JSON text: type, message and, when there is one, the traceback's end."""
    error = {"type": kind, "message": message[:MESSAGE_CHARACTERS]}
    if traceback:
        error["traceback"] = traceback[-TRACEBACK_CHARACTERS:]
    try:
        return json_bytes(error)
    except ValueError:  # lone surrogates, from file names or broken texts
        cleaned = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in error.items()}
        return json_bytes(cleaned)


def error_of(exception: BaseException, traceback: str = "") -> bytes:
    """The ``error`` of a job that ended with this exception."""
    try:
        message = str(exception)
    except Exception:
        message = "(the exception's own text cannot be had)"
    return error_json(type(exception).__name__, message, traceback)


def settle(
    store: "Store",
    held: HeldJob,
    report: Report,
    pauses_s: tuple[float, ...] = PAUSES_S,
    send: Callable[[Report], Reported] | None = None,
) -> State | None:
    """Report the end of an attempt once; returns the state the store gave the job, None when it is unknown.

    ``send``: in place of a plain report; raises Refusal, and may be called again.

    A refusal is final: somebody else ended the job or has it now, and the fence of the lease token kept our
    word out. Where this very attempt has ended the job already, ``held.outcome`` says how, for the monitors. A store
    that stays away is left to the lease: it runs out, and the job runs again.
    """
    if held.settled:
        return held.outcome
    held.settled = True
    report.job_id, report.lease_token = held.id, held.job.lease_token
    send = send or partial(jobs.report, store, held.application_id)
    for pause in (*pauses_s, None):
        try:
            held.outcome = send(report).state
            return held.outcome
        except Refusal as refusal:
            if refusal.code not in (Code.STORE_UNAVAILABLE, Code.STORE_FULL):
                if refusal.code is Code.JOB_CANCELLED:
                    held.gone = held.gone or "cancelled"
                    held.outcome = State.CANCELLED
                log = logger.info if refusal.code in ENDED_ELSEWHERE else logger.error
                log("Job %s: its %s was refused: %s", held.id, report.kind, refusal)
                if refusal.code is Code.JOB_ENDED:
                    held.outcome = _ended_as(store, held)
                    return None
                return held.outcome
            logger.warning("Job %s: its %s could not be reported: %s", held.id, report.kind, refusal)
        except Exception:
            logger.exception("Job %s: its %s could not be reported", held.id, report.kind)
        if pause is not None:
            time.sleep(pause)
    logger.error("Job %s: its %s was not reported; its lease will run out.", held.id, report.kind)
    return None


def _ended_as(store: "Store", held: HeldJob) -> State | None:
    with contextlib.suppress(Exception):  # as everything about the store here: it must not reach Celery
        return jobs.get(store, held.application_id, held.id).state
    return None


def give_back(store: "Store", place: Place, claim: Claim) -> None:
    """What was claimed is not started after all."""
    for job in claim.jobs:
        settle(store, HeldJob(place, job), Report(job.id, "release"), MAIN_PAUSES_S)
