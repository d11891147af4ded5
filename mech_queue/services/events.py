"""Events become deliveries: who asked for each, by the index; bodies rendered; the batch ticked off."""

import logging
import os
import time
from typing import Any

from mech_queue.model import backoff, matching, strict_json
from mech_queue.model.event import WEBHOOK_EVENTS, EventType
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.job import JobRecord
from mech_queue.model.rendering import Happening, job_webhook_body, subscription_body
from mech_queue.model.subscription import Subscription
from mech_queue.store import Store
from mech_queue.store.deliveries import NewDelivery
from mech_queue.store.events import Batch, Matchable, PendingEvent

BUDGET_S = 0.02
"""How long one wake-up goes on matching; whatever waits then has wake-ups of its own."""

LEASE_MS = 10_000
"""Lease of a batch. One that outlives it is matched twice, which changes nothing."""

log = logging.getLogger(__name__)


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
    asked = list(dict.fromkeys((one.event.application_id, raw) for one in batch.events for raw in one.candidates))
    read = dict(zip(asked, store.subscriptions.get_many(asked), strict=True)) if asked else {}
    made: list[NewDelivery] = []
    for one in batch.events:
        try:
            made += _deliveries(one, [read[one.event.application_id, raw] for raw in sorted(one.candidates)])
        except Exception:  # a fault in one event must not keep its batch coming back for ever
            log.exception("event not matched")
    return made


def _deliveries(one: Matchable, candidates: list[Subscription | None]) -> list[NewDelivery]:
    event, job = one.event, one.job
    happening = Happening(event.application_id, event.type.value, event.sequence, event.at_ms, event.extra)
    metadata = strict_json.load(job.metadata) if candidates else {}
    matched = [found for found in candidates if found is not None and _wants(found, event, job, metadata)]
    made = [to_subscription(happening, job, found) for found in matched]
    covered = {found.spec.endpoint for found in matched if found.spec.active}
    urls = [url for url in webhook_urls(job, event.type) if url not in covered]
    if urls:
        body = job_webhook_body(happening, job)
        made += [_new(happening, job, url, body) for url in urls]
    return made


def _wants(subscription: Subscription, event: PendingEvent, job: JobRecord, metadata: dict[str, Any]) -> bool:
    spec = subscription.spec
    return matching.matches(spec.events, spec.filters, event.type, job.queue, metadata)


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
