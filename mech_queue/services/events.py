"""Events become deliveries: who asked for each, by the index; bodies rendered; the batch ticked off."""

import logging
import os
import time
from functools import cached_property
from typing import Any

from mech_queue.model import backoff, matching, strict_json
from mech_queue.model.event import WEBHOOK_EVENTS, EventType
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.job import JobRecord
from mech_queue.model.rendering import Happening, job_webhook_body, subscription_body
from mech_queue.model.subscription import Subscription
from mech_queue.store import Store
from mech_queue.store.deliveries import NewDelivery
from mech_queue.store.events import Batch, PendingEvent
from mech_queue.store.subscriptions import Lookup

BUDGET_S = 0.02
"""How long one wake-up goes on matching; whatever waits then has wake-ups of its own."""

LEASE_MS = 10_000
"""Lease of a batch. One that outlives it is matched twice, which changes nothing."""

log = logging.getLogger(__name__)

Known = dict[tuple[str, bytes], Subscription | None]


def match(store: Store, shard: int, budget_s: float = BUDGET_S) -> int:
    """Match what waits in a shard; returns how many events. Raises Refusal when the store is away.

    A batch whose worker died comes again after its lease, and then makes no delivery twice.
    """
    until = time.monotonic() + budget_s
    matched = 0
    while True:
        batch = store.events.claim(shard, os.urandom(16), lease_ms=LEASE_MS)
        if batch is None:
            return matched
        store.deliveries.create(shard, deliveries_of(store, batch), batch.id)
        matched += len(batch.events)
        if time.monotonic() >= until:
            return matched


def deliveries_of(store: Store, batch: Batch) -> list[NewDelivery]:
    """Everything that a batch of events sends."""
    facts = [_facts(event, batch) for event in batch.events]
    known = [one for one in facts if one is not None]
    candidates = store.subscriptions.candidates([one.lookup for one in known])
    wanted = list(
        dict.fromkeys(
            (one.event.application_id, raw) for one, ids in zip(known, candidates, strict=True) for raw in ids
        )
    )
    read: Known = dict(zip(wanted, store.subscriptions.get_many(wanted), strict=True)) if wanted else {}
    made: list[NewDelivery] = []
    for one, ids in zip(known, candidates, strict=True):
        try:
            made += _deliveries(one, [read[one.event.application_id, raw] for raw in sorted(ids)])
        except Exception:  # a fault in one event must not keep its batch coming back for ever
            log.exception("event not matched")
    return made


class _Facts:
    """An event with its job, as matching needs them."""

    def __init__(self, event: PendingEvent, job: JobRecord, hashes: tuple[bytes, ...]) -> None:
        self.event = event
        self.job = job
        self.lookup = Lookup(event.application_id, event.type.letter, job.queue, hashes)
        self.happening = Happening(event.application_id, event.type.value, event.sequence, event.at_ms, event.extra)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Read only for events that have a candidate: most have none."""
        found: dict[str, Any] = strict_json.load(self.job.metadata)
        return found


def _facts(event: PendingEvent, batch: Batch) -> _Facts | None:
    key = (event.application_id, event.job_id)
    job = batch.jobs.get(key)
    return _Facts(event, job, batch.hashes[key]) if job is not None else None  # gone with its application


def _deliveries(facts: _Facts, candidates: list[Subscription | None]) -> list[NewDelivery]:
    matched = [one for one in candidates if one is not None and _wants(one, facts)]
    made = [to_subscription(facts.happening, facts.job, one) for one in matched]
    covered = {one.spec.endpoint for one in matched if one.spec.active}
    urls = [url for url in webhook_urls(facts.job, facts.event.type) if url not in covered]
    if urls:
        body = job_webhook_body(facts.happening, facts.job)
        made += [_new(facts.happening, facts.job, url, body) for url in urls]
    return made


def _wants(subscription: Subscription, facts: _Facts) -> bool:
    spec = subscription.spec
    return matching.matches(spec.events, spec.filters, facts.event.type, facts.job.queue, facts.metadata)


def webhook_urls(job: JobRecord, event: EventType) -> list[str]:
    """The distinct URLs that a job's own webhooks name for an event: the specific one and that of ``*``."""
    names = (event.value, "*") if event in WEBHOOK_EVENTS else ()
    return list(dict.fromkeys(job.webhooks[name] for name in names if name in job.webhooks))


def to_subscription(
    happening: Happening, job: JobRecord, subscription: Subscription, nonce: bytes = b""
) -> NewDelivery:
    """A delivery to a subscription; only written down when the service has switched that off."""
    spec = subscription.spec
    body = subscription_body(happening, job, subscription.id, spec.name)
    return _new(happening, job, spec.endpoint, body, subscription=subscription, nonce=nonce)


def _new(
    happening: Happening,
    job: JobRecord,
    url: str,
    body: bytes,
    *,
    subscription: Subscription | None = None,
    nonce: bytes = b"",
) -> NewDelivery:
    assert job_id_bytes(job.id) is not None
    return NewDelivery(
        application_id=happening.application_id,
        event=happening.event,
        job_id=job.id,
        sequence=happening.sequence,
        at_ms=happening.at_ms,
        queue=job.queue,
        url=url,
        body=body,
        subscription_id=subscription.id if subscription else None,
        max_attempts=backoff.max_attempts(subscription.spec.retry if subscription else None),
        skip=subscription is not None and not subscription.spec.active and not nonce,
        progress=happening.event == EventType.PROGRESS,
        nonce=nonce,
    )
