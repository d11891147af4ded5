"""Claim: the hot route of workers, free of any framework."""

import time
from dataclasses import dataclass

from api import render
from api.answers import Answer, Headers
from api.auth import demand_queue
from api.call import Call
from api.reports import lease_ms
from mech_queue.model.checks import Reader
from mech_queue.model.job import ClaimedJob
from mech_queue.model.problems import Problems, invalid
from mech_queue.model.submission import check_queue
from mech_queue.services import jobs

MEMBERS = ("limit", "wait", "leaseSeconds", "workerId", "nonce")
MAX_LIMIT = 100
MAX_WAIT_S = 30
MAX_QUEUES = 100


@dataclass(slots=True)
class Wish:
    """What a claim asks for."""

    queues: list[str]
    limit: int
    wait_s: float
    lease_ms: int | None
    worker_id: str | None
    nonce: str | None


def claim(call: Call) -> Answer:
    """POST /api/queues/{q}/claim"""
    call.no_query()
    sentence = check_queue(call.target)
    if sentence:
        raise invalid("queue", sentence)
    return _take(call, parse_wish(call, [call.target], MEMBERS, Problems()))


def claim_many(call: Call) -> Answer:
    """POST /api/queues/claim, with ``queues`` in order of preference"""
    call.no_query()
    problems = Problems()
    names = problems.texts("queues", call.object().value.get("queues"), MAX_QUEUES)
    if not names and not problems:
        problems.add("queues", "must name at least one queue")
    for position, name in enumerate(names):
        sentence = check_queue(name)
        if sentence:
            problems.add(f"queues.{position}", sentence)
    return _take(call, parse_wish(call, list(dict.fromkeys(names)), (*MEMBERS, "queues"), problems))


def parse_wish(call: Call, queues: list[str], names: tuple[str, ...], problems: Problems) -> Wish:
    """A validated claim. Raises INVALID with all ``problems``, or QUEUE_NOT_ALLOWED."""
    reader = Reader(call.object().value, problems)
    reader.only(names)
    wish = Wish(
        queues=queues,
        limit=reader.integer("limit", 1, MAX_LIMIT) or 1,
        wait_s=reader.number("wait", 0, MAX_WAIT_S) or 0.0,
        lease_ms=lease_ms(reader),
        worker_id=reader.key("workerId"),
        nonce=reader.key("nonce"),
    )
    problems.raise_any()
    for queue in queues:
        demand_queue(call.caller, queue)
    return wish


def _take(call: Call, wish: Wish) -> Answer:
    """Claim; with ``wait`` and nothing to claim, sleep until there may be something."""
    taken = _claim(call, wish)
    headers: Headers = []
    if not taken and wish.wait_s > 0:
        waiters = call.runtime.waiters
        if waiters.full():
            headers.append(("Retry-After", "1"))
        else:
            until = time.monotonic() + wish.wait_s
            with waiters.work(call.application_id, wish.queues) as watch:
                while not (taken := _claim(call, wish)) and not call.runtime.stopping.is_set():
                    if not watch.wait(until - time.monotonic()):
                        break
    body = b'{"success":true,"jobs":[%s],"count":%d}' % (b",".join(map(render.claimed, taken)), len(taken))
    return Answer(200, body, headers)


def _claim(call: Call, wish: Wish) -> list[ClaimedJob]:
    return jobs.claim(
        call.store,
        call.application_id,
        wish.queues,
        limit=wish.limit,
        lease_ms=wish.lease_ms,
        worker_id=wish.worker_id,
        nonce=wish.nonce,
    ).jobs
