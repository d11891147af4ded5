"""Subscriptions: who is told of which events, where and how."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from mech_queue.model.application import Secret, live_secrets
from mech_queue.model.ids import job_id_text, new_job_id
from mech_queue.model.problems import Problems
from mech_queue.model.signing import new_secret
from mech_queue.model.subscription import Subscription, parse_subscription
from mech_queue.services.applications import OVERLAP_S, rotated, until_unchanged
from mech_queue.store import Store


@dataclass(frozen=True, slots=True)
class Created:
    """A new subscription, with the only sight of its secret."""

    subscription: Subscription
    secret: str = field(repr=False)


def create(store: Store, application_id: str, body: dict[str, Any]) -> Created:
    """A new subscription from its wire form. Raises Refusal(INVALID) naming every field that is wrong."""
    problems = Problems()
    spec = parse_subscription(body, problems)
    problems.raise_any()
    now_ms, secret = _now_ms(), new_secret()
    new = Subscription(job_id_text(new_job_id()), application_id, spec, created_ms=now_ms, updated_ms=now_ms)
    store.subscriptions.create(new, (Secret(secret),))
    return Created(get(store, application_id, new.id), secret)


def list_(
    store: Store,
    application_id: str,
    *,
    active: bool | None = None,
    queue: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> tuple[list[Subscription], str | None]:
    """Subscriptions by age and the id to go on from. ``queue``: those that hear of this queue."""
    found: list[Subscription] = []
    while True:
        page, cursor = store.subscriptions.page(application_id, limit, cursor)
        for at, one in enumerate(page):
            queues = one.spec.filters.queues
            if active not in (None, one.spec.active) or (queue is not None and queues and queue not in queues):
                continue
            found.append(one)
            if len(found) == limit:
                return found, one.id if cursor or at + 1 < len(page) else None
        if cursor is None:
            return found, None


def get(store: Store, application_id: str, subscription_id: str) -> Subscription:
    """One subscription, headers masked. Raises Refusal(NOT_FOUND)."""
    return store.subscriptions.get(application_id, subscription_id)


def change(store: Store, application_id: str, subscription_id: str, body: dict[str, Any]) -> Subscription:
    """Change the fields sent. Switched on again, it starts with a clean health. Raises Refusal."""

    def attempt() -> bool:
        problems = Problems()
        before, secrets = store.subscriptions.unsealed(get(store, application_id, subscription_id))
        spec = parse_subscription(body, problems, before.spec)
        problems.raise_any()
        return store.subscriptions.change(replace(before, spec=spec, updated_ms=_now_ms()), secrets)

    until_unchanged(attempt)
    return get(store, application_id, subscription_id)


def delete(store: Store, application_id: str, subscription_id: str) -> None:
    """Forget one; its deliveries that still wait end as cancelled. Raises Refusal(NOT_FOUND)."""
    store.subscriptions.delete(application_id, subscription_id)


def rotate_secret(store: Store, application_id: str, subscription_id: str, *, overlap_s: int = OVERLAP_S) -> str:
    """A new secret; the old one signs along for ``overlap_s`` seconds. Raises Refusal(NOT_FOUND, CONFLICT)."""
    secret = new_secret()

    def attempt() -> bool:
        before, known = store.subscriptions.unsealed(get(store, application_id, subscription_id))
        changed = replace(before, updated_ms=_now_ms())
        return store.subscriptions.change(changed, rotated(known, secret, overlap_s))

    until_unchanged(attempt)
    return secret


@dataclass(frozen=True, slots=True)
class Receiver:
    """What an attempt needs of a subscription now: real header values, and the secrets that sign, newest first."""

    subscription: Subscription
    headers: dict[str, str] = field(repr=False)
    secrets: list[str] = field(repr=False)


def receiver(store: Store, subscription: Subscription) -> Receiver:
    """For the delivery stage; the only reader of header values."""
    opened, secrets = store.subscriptions.unsealed(subscription)
    return Receiver(opened, opened.spec.headers, live_secrets(secrets))


def _now_ms() -> int:
    return int(time.time() * 1000)
