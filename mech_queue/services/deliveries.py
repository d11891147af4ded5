"""Deliveries: send the next one, look at them, send them again."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from mech_queue.model import backoff, rendering
from mech_queue.model.backoff import RetryConfig
from mech_queue.model.delivery import (
    LEASE_MARGIN_S,
    DeliveryPage,
    DeliveryQuery,
    DeliveryRecord,
    DeliveryState,
    ErrorCode,
    Outcome,
)
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_text, new_job_id
from mech_queue.model.job import JobRecord, State
from mech_queue.model.secretbox import SecretsKeyError
from mech_queue.model.signing import sign
from mech_queue.model.subscription import Subscription
from mech_queue.outbound import Sender
from mech_queue.services import applications, events, notices, subscriptions
from mech_queue.services.searching import BUDGET, HIGHEST, cursor_raw, cursor_text
from mech_queue.store import Store, keys
from mech_queue.store.deliveries import BATCH, ClaimedDelivery
from mech_queue.store.digest import search_field

T = TypeVar("T")

BUDGET_S = 1.0
"""How long one wake-up goes on taking deliveries; whatever waits then has wake-ups of its own."""

HOLD_MS = 60_000
LONGEST_HOLD_MS = 600_000
"""How long an endpoint that is short of breath (429, 502, 503, 504, timeout) gets nothing more."""

REPORT_TRIES_S = 10.0
"""How long an outcome waits for a store that is away; the lease outlasts it."""

PAGE_S = 2.0
REPLAY_S = 5.0

LETTERS = {
    DeliveryState.PENDING: "wd",
    DeliveryState.SENDING: "a",
    DeliveryState.SUCCEEDED: "c",
    DeliveryState.FAILED: "f",
    DeliveryState.CANCELLED: "x",
    DeliveryState.SKIPPED: "x",
}

# -- sending -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt, ready to be sent. Its repr shows nothing secret."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    retry: RetryConfig | None = None


class _Drop(Exception):
    """Nobody wants this delivery any more."""

    def __init__(self, state: DeliveryState) -> None:
        super().__init__(state.value)
        self.state = state


def deliver(store: Store, sender: Sender, shard: int, budget_s: float = BUDGET_S) -> int:
    """Send what may be sent in a shard, one after the other; returns how many. Raises Refusal (store away)."""
    until = time.monotonic() + budget_s
    sent = 0
    while deliver_next(store, sender, shard):
        sent += 1
        if time.monotonic() >= until:
            break
    return sent


def deliver_next(store: Store, sender: Sender, shard: int) -> bool:
    """Claim, sign, send, write down. False when nothing may be sent now."""
    claimed = store.deliveries.claim(shard, round(1000 * (sender.total_s + LEASE_MARGIN_S)))
    if claimed is None:
        return False
    retry: RetryConfig | None = None
    try:
        message = _message(store, claimed)
        retry = message.retry
        outcome = sender.send(message.method, message.url, message.headers, claimed.body)
    except _Drop as dropped:
        state = dropped.state
        _persist(lambda: store.deliveries.drop(claimed, state))
        return True
    except SecretsKeyError:
        outcome = _unsignable("SECRETS_KEY does not open the secret that signs this delivery.")
    except ValueError:
        outcome = _unsignable("The secret that signs this delivery is malformed.")
    _report(store, claimed, outcome, retry)
    return True


def _message(store: Store, claimed: ClaimedDelivery) -> Message:
    headers = {"Content-Type": "application/json", "X-Job-Status": claimed.event}
    if claimed.job_id:  # a notice is about no job
        headers["X-Job-Id"] = claimed.job_id
    now_s = int(time.time())
    if claimed.subscription_id is None:
        secrets = applications.webhook_secrets(store, claimed.sealed)
        if not secrets:
            raise _Drop(DeliveryState.CANCELLED)
        return Message("POST", claimed.url, {**headers, **sign(secrets, claimed.id, now_s, claimed.body)})
    receiver = subscriptions.receiver(store, _still_wanted(claimed))
    spec = receiver.subscription.spec
    headers["X-Subscription-Id"] = claimed.subscription_id
    headers["X-Application-Id"] = claimed.application_id
    signed = sign(receiver.secrets, claimed.id, now_s, claimed.body)
    return Message(spec.method, spec.endpoint, {**receiver.headers, **headers, **signed}, spec.retry)


def _still_wanted(claimed: ClaimedDelivery) -> Subscription:
    """The subscription as it is now: endpoint, headers and secrets may have changed since the event."""
    if claimed.subscription is None:
        raise _Drop(DeliveryState.CANCELLED)
    if not claimed.subscription.spec.active and claimed.event != rendering.TEST:
        gone = claimed.subscription.health.disabled_reason == "gone"
        raise _Drop(DeliveryState.CANCELLED if gone else DeliveryState.SKIPPED)
    return claimed.subscription


def _report(store: Store, claimed: ClaimedDelivery, outcome: Outcome, retry: RetryConfig | None) -> None:
    delay = backoff.delay_ms(claimed.failures + 1, retry, random.random(), outcome.retry_after_ms)
    hold = None
    if outcome.overloaded:
        hold = min(max(HOLD_MS, outcome.retry_after_ms or 0), LONGEST_HOLD_MS)
    became = _persist(lambda: store.deliveries.report(claimed, outcome, delay_ms=delay, hold_ms=hold))
    if became and claimed.subscription_id:
        told = claimed.subscription_id
        _persist(lambda: notices.tell(store, claimed.application_id, told, became))


def _persist(write: Callable[[], T]) -> T:
    """Write an outcome down even when the store is away for a moment: forgetting it would send twice."""
    until, pause_s = time.monotonic() + REPORT_TRIES_S, 0.1
    while True:
        try:
            return write()
        except Refusal:
            if time.monotonic() + pause_s >= until:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 2.0)


def _unsignable(sentence: str) -> Outcome:
    return Outcome(False, error_code=ErrorCode.INVALID, error=sentence)


# -- looking -------------------------------------------------------------------------------------


def get(store: Store, application_id: str, delivery_id: str) -> DeliveryRecord:
    """One delivery with its attempts. Raises Refusal(NOT_FOUND)."""
    return store.deliveries.get(application_id, delivery_id)


def search(store: Store, application_id: str, query: DeliveryQuery) -> DeliveryPage:
    """Newest first; goes on until the page is full, the deliveries end or two seconds have passed."""
    page = DeliveryPage()
    groups = [[b"m" + search_field("application", application_id)]]
    if query.job_id:
        groups.append([b"m" + search_field("job", application_id, query.job_id)])
    if query.subscription_id:
        groups.append([b"m" + search_field("subscription", application_id, query.subscription_id)])
    if query.states:
        letters = sorted({letter for state in query.states for letter in LETTERS[state]})
        groups.append([b"s" + letter.encode() + keys.WEBHOOKS.encode() + b"\0" for letter in letters])
    args = {
        "groups": groups,
        "states": "",
        "ascending": False,
        "cursor": cursor_raw(query.cursor) if query.cursor is not None else b"",
        "low": (query.after_ms or 0) * 1024,
        "high": query.before_ms * 1024 - 1 if query.before_ms else HIGHEST,
        "budget": BUDGET,
        "bytes": 8 * 1024 * 1024,
    }
    until = time.monotonic() + PAGE_S
    while True:
        args["limit"] = query.limit - len(page.deliveries)
        found, cursor = store.deliveries.search(application_id, args)
        page.deliveries += [
            one
            for one in found
            if one.application_id == application_id and (not query.states or one.state in query.states)
        ]
        if not cursor:
            return page
        if len(page.deliveries) >= query.limit or time.monotonic() > until:
            page.next_cursor = cursor_text(cursor)
            return page
        args["cursor"] = cursor


# -- sending again -------------------------------------------------------------------------------


def replay(store: Store, application_id: str, delivery_id: str) -> DeliveryRecord:
    """Send one again, now; a pending retry is superseded. Raises Refusal(NOT_FOUND, CONFLICT)."""
    found = get(store, application_id, delivery_id)
    if found.subscription_id is not None:
        _demand_active(store, application_id, found.subscription_id)
    refused = store.deliveries.replay(application_id, [delivery_id])[0]
    if refused is not None:
        raise refused
    return get(store, application_id, delivery_id)


def replay_since(store: Store, application_id: str, subscription_id: str, since_ms: int) -> tuple[int, bool]:
    """Send again what a subscription missed (failed, skipped, cancelled) since a time.

    Returns how many, and whether that was all; if not (five seconds are over), ask again: what waits
    is not taken twice. Raises Refusal(NOT_FOUND, CONFLICT).
    """
    subscriptions.get(store, application_id, subscription_id)
    _demand_active(store, application_id, subscription_id)
    missed = (DeliveryState.FAILED, DeliveryState.SKIPPED, DeliveryState.CANCELLED)
    query = DeliveryQuery(subscription_id=subscription_id, states=missed, after_ms=since_ms, limit=BATCH)
    until = time.monotonic() + REPLAY_S
    replayed = 0
    while True:
        page = search(store, application_id, query)
        answers = store.deliveries.replay(application_id, [one.id for one in page.deliveries])
        replayed += sum(answer is None for answer in answers)
        if page.next_cursor is None:
            return replayed, True
        if time.monotonic() > until:
            return replayed, False
        query.cursor = page.next_cursor


def send_test(store: Store, application_id: str, subscription_id: str) -> str:
    """Send a made-up event ``test`` to a subscription, whatever its filters; returns the delivery's id.

    It goes the way of every delivery: guard, signature, retries, log. Raises Refusal(NOT_FOUND).
    """
    subscription = subscriptions.get(store, application_id, subscription_id)
    now_ms = int(time.time() * 1000)
    queue = next(iter(subscription.spec.filters.queues), "test")
    job = JobRecord(
        id=job_id_text(new_job_id()),
        queue=queue,
        task=queue,
        state=State.COMPLETED,
        sequence=0,
        data=b'{"test":true}',
        metadata=b"{}",
        webhooks={},
        priority=0,
        attempt=0,
        max_attempts=1,
        failures=0,
        stalls=0,
        submitted_ms=now_ms,
    )
    happening = rendering.Happening(application_id, rendering.TEST, 1, now_ms)
    new = events.to_subscription(happening, job, subscription, nonce=os.urandom(8))
    store.deliveries.create(keys.shard_of(application_id), [new])
    return job_id_text(new.id)


def _demand_active(store: Store, application_id: str, subscription_id: str) -> None:
    try:
        active = subscriptions.get(store, application_id, subscription_id).spec.active
    except Refusal as refusal:
        if refusal.code is not Code.NOT_FOUND:
            raise
        raise Refusal(Code.CONFLICT, "The subscription of this delivery does not exist any more.") from None
    if not active:
        raise Refusal(Code.CONFLICT, "The subscription is switched off; activate it before sending to it again.")
