"""Subscriptions in the store, and the index that leads from an event to its few candidates."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mech_queue.model import matching
from mech_queue.model.application import Secret
from mech_queue.model.backoff import RetryConfig
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.event import EventType
from mech_queue.model.ids import job_id_bytes, job_id_text
from mech_queue.model.matching import ANY_FIELD, ANY_QUEUE, NOTICE_LETTER, Filters
from mech_queue.model.metadata import canonical, fields_hash
from mech_queue.model.subscription import MASKED, Health, Subscription, SubscriptionSpec
from mech_queue.store import keys
from mech_queue.store.connection import read, translated
from mech_queue.store.digest import search_field
from mech_queue.store.sealing import box_of, seal, secrets_of, secrets_to_json, unseal

if TYPE_CHECKING:
    from mech_queue.store.store import Store

ID = 16  # bytes
CHOICES = 4  # metadata conditions among which the index chooses the rarest
FIELDS = ("body", "sealed", "version", "active", "triggers", "triggered", "ok", "fails", "failing", "reason")
"""As in lua/lib/subscription.lua."""


def missing() -> Refusal:
    """The refusal for a subscription that does not exist, or is another application's."""
    return Refusal(Code.NOT_FOUND, "There is no such subscription.")


def raw_id(subscription_id: str) -> bytes:
    """The 16 bytes of a subscription's id; raises Refusal(NOT_FOUND) for what cannot be one."""
    found = job_id_bytes(subscription_id)
    if found is None:
        raise missing()
    return found


class Subscriptions:
    """Subscriptions of any application. Every method raises Refusal; nothing here is cached."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def create(self, new: Subscription, secrets: tuple[Secret, ...]) -> None:
        """Keep a new subscription."""
        args = self._record(new, secrets)
        self._store.scripts.run("subscription_create", new.application_id, args, idempotent=True)

    def change(self, changed: Subscription, secrets: tuple[Secret, ...]) -> bool:
        """Write a changed subscription, if nobody did since its ``version`` was read; else False."""
        args = {**self._record(changed, secrets), "version": changed.version}
        return int(self._store.scripts.run("subscription_change", changed.application_id, args)) > 0

    def delete(self, application_id: str, subscription_id: str) -> None:
        """Forget one. Raises Refusal(NOT_FOUND)."""
        args = {"id": raw_id(subscription_id), "field": search_field("subscription", application_id, subscription_id)}
        self._store.scripts.run("subscription_delete", application_id, args)

    def get(self, application_id: str, subscription_id: str) -> Subscription:
        """One subscription, headers masked. Raises Refusal(NOT_FOUND)."""
        found = self.get_many([(application_id, raw_id(subscription_id))])[0]
        if found is None:
            raise missing()
        return found

    def get_many(self, wanted: Sequence[tuple[str, bytes]]) -> list[Subscription | None]:
        """(application, 16-byte id) pairs -> subscriptions in one round trip, None where there is none."""
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for application_id, raw in wanted:
                pipe.hmget(keys.prefix(application_id) + b"sub:" + raw, *FIELDS)
            rows = pipe.execute()
        return [
            from_row(application_id, job_id_text(raw), row)
            for (application_id, raw), row in zip(wanted, rows, strict=True)
        ]

    def unsealed(self, found: Subscription) -> tuple[Subscription, tuple[Secret, ...]]:
        """The subscription with its real header values, and its secrets, newest first, expired included."""
        inside = unseal(self._store, found.sealed)
        spec = replace(found.spec, headers=inside["headers"])
        return replace(found, spec=spec), secrets_of(inside["secrets"])

    def sealed_by_first_key(self, found: Subscription) -> bool:
        """Whether its secrets stand under the key that encrypts now."""
        return box_of(self._store).current(found.sealed)

    def page(self, application_id: str, limit: int, after: str | None = None) -> tuple[list[Subscription], str | None]:
        """Up to ``limit`` subscriptions by age, those after the id ``after``; and the id to go on from."""
        start = b"(" + raw_id(after) if after else b"-"
        place = keys.prefix(application_id) + b"subs"
        ids = read(self._store.redis, "ZRANGEBYLEX", place, start, "+", "LIMIT", 0, limit)
        rows = self.get_many([(application_id, raw) for raw in ids])
        return [row for row in rows if row is not None], job_id_text(ids[-1]) if len(ids) == limit else None

    def asking_for_notices(self, application_id: str) -> list[Subscription]:
        """Those that want to hear of the application's other subscriptions."""
        place = keys.prefix(application_id) + f"match:{NOTICE_LETTER}:{ANY_QUEUE}".encode()
        packed = read(self._store.redis, "HGET", place, ANY_FIELD) or b""
        found = self.get_many([(application_id, raw) for raw in ids_in(packed)])
        return [one for one in found if one is not None]

    def _record(self, one: Subscription, secrets: tuple[Secret, ...]) -> dict[str, Any]:
        spec = one.spec
        places = matching.places(spec.events, spec.filters)
        bits = matching.wanted(spec.events, spec.filters)
        return {
            "id": raw_id(one.id),
            "body": _body(one),
            "sealed": seal(self._store, {"headers": spec.headers, "secrets": secrets_to_json(secrets)}),
            "active": spec.active,
            "letters": "".join(event.letter for event in EventType if bits & event.bit),
            "places": [part for place in places for part in place],
            "fields": index_fields(spec.filters),
        }


def index_fields(filters: Filters) -> list[bytes]:
    """The conditions under which the index may keep a subscription, the longest first (rare, mostly)."""
    texts = ((name, canonical(value)) for name, value in filters.metadata.items())
    scalars = sorted(((name, text) for name, text in texts if text is not None), key=lambda pair: -len(pair[1]))
    return [fields_hash(name, text) for name, text in scalars[:CHOICES]] or [ANY_FIELD]


def ids_in(packed: bytes) -> tuple[bytes, ...]:
    """The ids that stand in one value of the index."""
    return tuple(packed[at : at + ID] for at in range(0, len(packed), ID))


def _body(one: Subscription) -> str:
    spec = one.spec
    return json.dumps(
        {
            "name": spec.name,
            "endpoint": spec.endpoint,
            "events": spec.events,
            "filters": spec.filters.to_json(),
            "description": spec.description,
            "method": spec.method,
            "headers": list(spec.headers),
            "retry": asdict(spec.retry) if spec.retry else None,
            "created": one.created_ms,
            "updated": one.updated_ms,
        },
        ensure_ascii=False,
    )


def from_row(application_id: str, subscription_id: str, row: list[bytes | None]) -> Subscription | None:
    """The values of FIELDS -> the subscription, headers masked; None when there is none."""
    body, sealed, version, active, *health = row
    if body is None:
        return None
    known = json.loads(body)
    filters = known["filters"]
    spec = SubscriptionSpec(
        name=known["name"],
        endpoint=known["endpoint"],
        events=tuple(known["events"]),
        filters=Filters(
            tuple(filters.get("queues", ())), tuple(filters.get("statuses", ())), filters.get("metadata", {})
        ),
        description=known["description"],
        method=known["method"],
        headers=dict.fromkeys(known["headers"], MASKED),
        retry=RetryConfig(**known["retry"]) if known["retry"] else None,
        active=active == b"1",
    )
    return Subscription(
        id=subscription_id,
        application_id=application_id,
        spec=spec,
        created_ms=known["created"],
        updated_ms=known["updated"],
        version=int(version or 0),
        health=_health(health),
        sealed=sealed or b"",
    )


def _health(row: list[bytes | None]) -> Health:
    triggers, triggered, ok, fails, failing, reason = row
    return Health(
        trigger_count=int(triggers or 0),
        last_triggered_ms=int(triggered) if triggered else None,
        last_success_ms=int(ok) if ok else None,
        failures=int(fails or 0),
        failing_since_ms=int(failing) if failing else None,
        disabled_reason=reason.decode() if reason else None,
    )
