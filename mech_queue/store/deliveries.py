"""Deliveries in the store: jobs of each shard's application ``~``, with a body and a log of attempts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mech_queue.model import endpoint
from mech_queue.model.delivery import BY_STATE, Attempt, DeliveryRecord, DeliveryState, Outcome
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_bytes, job_id_text, new_lease_token
from mech_queue.model.job import BY_LETTER
from mech_queue.model.subscription import PATIENCE_FAILURES, PATIENCE_MS, Subscription
from mech_queue.store import job_codec, keys
from mech_queue.store.connection import translated
from mech_queue.store.digest import digest, search_field
from mech_queue.store.packing import pack, unpack
from mech_queue.store.scripts import refusal
from mech_queue.store.subscriptions import from_row

if TYPE_CHECKING:
    from mech_queue.store.store import Store

RECORD = 1  # format number of the ``d:`` record
BATCH = 100  # deliveries per script run
BATCH_BYTES = 4 * 1024 * 1024  # … and bytes of their bodies
SKIPPED = b"skipped"


class Slots(NamedTuple):
    """Deliveries that are sent at a time, by all processes together: to one endpoint, and of one application."""

    endpoint: int
    application: int


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One event on its way to one receiver. ``body``: the exact bytes of every attempt.

    ``subscription_id`` None: a job webhook. ``skip``: only written down, because the subscription is
    disabled; replay sends it. ``progress``: at most one a second per job and receiver.
    """

    application_id: str
    event: str
    job_id: str
    sequence: int
    at_ms: int
    queue: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    subscription_id: str | None = None
    max_attempts: int = 10
    skip: bool = False
    progress: bool = False
    nonce: bytes = b""  # makes the id of a test or a repeated event its own

    @property
    def target(self) -> str:
        """Who gets it."""
        return f"s {self.subscription_id}" if self.subscription_id else f"u {self.url}"

    @property
    def id(self) -> bytes:
        """16 bytes made from event and target, so that an event matched twice makes one delivery."""
        return digest(self.application_id, self.job_id, str(self.sequence), self.event, self.target, self.nonce)


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery whose lease the caller holds. ``failures``: attempts that failed since it was (re)started.

    Who gets it, as they are now: ``subscription`` (None: it is gone, or this is a job webhook), ``sealed`` secrets of
    the application (empty: it is gone, or this is a subscription's).
    """

    id: str
    shard: int
    lease_token: str
    attempt: int
    failures: int
    application_id: str
    event: str
    job_id: str
    subscription_id: str | None
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    subscription: Subscription | None = field(default=None, repr=False)
    sealed: bytes = field(default=b"", repr=False)


def missing() -> Refusal:
    """The refusal for a delivery that does not exist, or is another application's."""
    return Refusal(Code.NOT_FOUND, "There is no such delivery.")


class Deliveries:
    """Every method raises Refusal; nothing here is cached.

    ``slots`` are set by the stages at their start. None leaves them as they are in the store (another process's
    word).
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self.slots: Slots | None = None

    def create(self, shard: int, deliveries: Sequence[NewDelivery], batch_id: bytes | None = None) -> int:
        """Keep them in steps; the last step ticks ``batch_id`` off. Returns how many are new."""
        steps = list(_steps(deliveries)) or [[]]
        made = 0
        for number, step in enumerate(steps, 1):
            args: dict[str, Any] = {"deliveries": [_packed(one) for one in step]}
            if self.slots is not None:
                args["slots"] = self.slots._asdict()
            if batch_id is not None and number == len(steps):
                args["batch"] = batch_id
            made += int(self._run("deliveries_create", shard, args, idempotent=True))
        return made

    def claim(self, shard: int, lease_ms: int) -> ClaimedDelivery | None:
        """The next delivery of a shard that may be sent now."""
        answer = self._run("delivery_claim", shard, {"token": new_lease_token(), "lease": lease_ms})
        if not answer:
            return None
        raw, token, _, attempt, failures, blob, body, receiver = answer
        about = _about(blob)
        application_id, subscription_id = about["application"], about["subscription"]
        subscription, sealed = None, b""
        if subscription_id is not None:
            subscription = from_row(application_id, subscription_id, receiver)
        elif not receiver[1]:  # not deleted
            sealed = receiver[0] or b""
        return ClaimedDelivery(
            id=job_id_text(raw),
            shard=shard,
            lease_token=token.decode(),
            attempt=int(attempt),
            failures=int(failures),
            application_id=application_id,
            event=about["event"],
            job_id=about["job"],
            subscription_id=subscription_id,
            url=about["url"],
            body=body,
            subscription=subscription,
            sealed=sealed,
        )

    def report(
        self, claimed: ClaimedDelivery, outcome: Outcome, *, delay_ms: int | None, hold_ms: int | None = None
    ) -> str:
        """Write an attempt down. ``delay_ms`` None: it was the last. Nothing happens when the lease is lost.

        Answers what its subscription became by it, one of NOTICES, or "".
        """
        args: dict[str, Any] = {
            "ok": outcome.success,
            "status": outcome.status,
            "code": outcome.error_code.value if outcome.error_code else None,
            "error": outcome.error,
            "ms": outcome.duration_ms,
            "excerpt": outcome.excerpt,
            "truncated": outcome.truncated,
            "delay": None if outcome.permanent else delay_ms,
            "hold": hold_ms,
            "gone": outcome.permanent or None,
            "patience": PATIENCE_MS,
            "failures": PATIENCE_FAILURES,
        }
        answer = self._settle(claimed, {name: value for name, value in args.items() if value is not None})
        return answer.decode() if answer else ""

    def drop(self, claimed: ClaimedDelivery, state: DeliveryState) -> bool:
        """End it unsent, as CANCELLED or SKIPPED. False when the lease is lost."""
        return self._settle(claimed, {"drop": state.value}) is not None

    def replay(self, application_id: str, delivery_ids: Sequence[str]) -> list[Refusal | None]:
        """Send up to BATCH again; None where it waits now."""
        ids = [job_id_bytes(one) or b"" for one in delivery_ids]
        shard = keys.shard_of(application_id)
        answers = self._run("delivery_replay", shard, {"ids": ids, "app": application_id})
        return [refusal(answer) if isinstance(answer, list) else None for answer in answers]

    def get(self, application_id: str, delivery_id: str) -> DeliveryRecord:
        """One delivery with its body and attempts. Raises Refusal(NOT_FOUND)."""
        raw, shard = job_id_bytes(delivery_id), keys.shard_of(application_id)
        view = unpack(self._run("job_get", shard, {"ids": [raw]}, idempotent=True))[0] if raw else None
        found = _record(view) if view else None
        if found is None or raw is None or found.application_id != application_id:
            raise missing()
        place = keys.shard_prefix(shard) + keys.DELIVERIES.encode() + b":"
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.get(place + b"body:" + raw)
            pipe.lrange(place + b"at:" + raw, 0, -1)
            body, rows = pipe.execute()
        found.body, found.attempts = body or b"", [_attempt(row) for row in rows]
        return found

    def search(self, application_id: str, args: dict[str, Any]) -> tuple[list[DeliveryRecord], bytes]:
        """One bounded step of job_search.lua over deliveries. Returns (records, cursor or b"")."""
        views, cursor = unpack(self._run("job_search", keys.shard_of(application_id), args, idempotent=True))
        return [_record(view) for view in views], cursor

    def waiting(self, shard: int) -> dict[str, int]:
        """How many deliveries of a shard are in each state of a job, by letter."""
        place = keys.shard_prefix(shard) + keys.DELIVERIES.encode() + b":q:" + keys.WEBHOOKS.encode()
        letters = "wdacfx"
        with translated():
            row = self._store.redis.hmget(place, [f"n{letter}" for letter in letters])
        return {letter: int(number or 0) for letter, number in zip(letters, row, strict=True)}

    def _settle(self, claimed: ClaimedDelivery, args: dict[str, Any]) -> bytes | None:
        args.update(id=job_id_bytes(claimed.id), token=claimed.lease_token)
        answer: bytes | None = self._run("delivery_report", claimed.shard, args, idempotent=True)
        return answer

    def _run(self, name: str, shard: int, args: dict[str, Any], *, idempotent: bool = False) -> Any:
        return self._store.scripts.run(name, keys.DELIVERIES, args, shard=shard, idempotent=idempotent)


def _steps(deliveries: Iterable[NewDelivery]) -> Iterable[list[NewDelivery]]:
    step: list[NewDelivery] = []
    size = 0
    for one in deliveries:
        if step and (len(step) >= BATCH or size + len(one.body) > BATCH_BYTES):
            yield step
            step, size = [], 0
        step.append(one)
        size += len(one.body)
    if step:
        yield step


def _packed(one: NewDelivery) -> dict[str, Any]:
    application, job, subscription = one.application_id, one.job_id, one.subscription_id
    raw_subscription = job_id_bytes(subscription) if subscription else None
    fields = [search_field("application", application), search_field("job", application, job)]
    if subscription:
        fields.append(search_field("subscription", application, subscription))
    about = [RECORD, application, one.event, job_id_bytes(job) or b"", one.sequence, one.at_ms]
    args: dict[str, Any] = {
        "id": one.id,
        "k": f"{application} {endpoint.origin(one.url)}",
        "o": pack({"attempts": one.max_attempts}),
        "i": b"".join(fields),
        "blob": pack([*about, raw_subscription or b"", one.url, one.queue]),
        "body": one.body,
        "app": application,
        "sub": raw_subscription,
        "skip": one.skip or None,
        "coalesce": digest(application, job, one.target) if one.progress else None,
        "seq": one.sequence,
    }
    return {name: value for name, value in args.items() if value is not None}


def _about(blob: bytes) -> dict[str, Any]:
    _, application, event, job, sequence, at_ms, subscription, url, queue = unpack(blob)
    return {
        "application": application.decode(),
        "event": event.decode(),
        "job": job_id_text(job) if job else "",
        "sequence": int(sequence),
        "at_ms": int(at_ms),
        "subscription": job_id_text(subscription) if subscription else None,
        "url": url.decode(),
        "queue": queue.decode(),
    }


def _record(view: list[Any]) -> DeliveryRecord:
    raw, field_pairs, blob, late_pairs, _, _ = view
    values, late = job_codec.by_name(field_pairs), job_codec.by_name(late_pairs)
    about = _about(blob)
    code = late.get(b"c")
    state = BY_STATE[BY_LETTER[values[b"s"].decode()]]
    if state is DeliveryState.CANCELLED and code == SKIPPED:
        state = DeliveryState.SKIPPED
    return DeliveryRecord(
        id=job_id_text(raw),
        application_id=about["application"],
        job_id=about["job"],
        event=about["event"],
        state=state,
        url=about["url"],
        subscription_id=about["subscription"],
        sequence=about["sequence"],
        queue=about["queue"],
        created_ms=int.from_bytes(values.get(b"n", b""), "big") // 1024,
        attempt=int(values.get(b"a", b"") or 0),
        next_attempt_ms=int(values.get(b"tr", b"")) if values.get(b"tr", b"") else None,
        ended_ms=int(values.get(b"te", b"")) if values.get(b"te", b"") else None,
        last_status=int(late[b"st"]) if late.get(b"st") else None,
        last_error_code=code.decode() if code else None,
    )


def _attempt(row: bytes) -> Attempt:
    number, at_ms, duration, ok, status, code, error, excerpt, truncated, manual = unpack(row)
    return Attempt(
        number=int(number),
        at_ms=int(at_ms),
        duration_ms=int(duration),
        success=bool(ok),
        status=int(status) or None,
        error_code=code.decode() or None,
        error=error.decode() or None,
        excerpt=excerpt,
        truncated=bool(truncated),
        manual=bool(manual),
    )
