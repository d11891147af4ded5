"""Subscriptions and their index, against a real store."""

import json
import os
from dataclasses import replace

import pytest

from mech_queue.model import matching
from mech_queue.model.application import DEFAULT_SCOPES
from mech_queue.model.backoff import RetryConfig
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.event import EventType, mask
from mech_queue.model.ids import job_id_bytes, job_id_text, new_job_id
from mech_queue.model.job import JobSpec, Report
from mech_queue.model.matching import Filters
from mech_queue.model.metadata import fields_of
from mech_queue.model.secretbox import SecretBox, SecretsKeyError
from mech_queue.model.subscription import MASKED
from mech_queue.services import events, jobs, subscriptions
from mech_queue.store import Store, keys

APP = "app-subscription"
KEY_1, KEY_2 = "kO9g2wPlvCm0fzlmqGuW8PSm1nJ-hUBTOAJqEAcuGJ8=", "2mS0sbBgzH9u9cxwWn6jPZEwQ2PQmR0wRFLE2bHOWSI="


def body(**changes):
    """A subscription as a caller sends it."""
    return {"name": "hook", "endpoint": "https://example.com/hook", "events": ["completed"], **changes}


def subscribe(store: Store, application_id: str = APP, **changes):
    return subscriptions.create(store, application_id, body(**changes)).subscription


def candidates(store: Store, *asked: tuple[EventType, str, dict, str]) -> list[tuple[bytes, ...]]:
    """What the index says of real events, each given as (type, queue, metadata, application)."""
    shards = [keys.shard_of(application_id) for *_, application_id in asked]
    found = []
    for event, queue, metadata, application_id in asked:
        spec = JobSpec(queue=queue, data=b"1", metadata=json.dumps(metadata).encode(), fields=fields_of(metadata))
        job_id = jobs.submit(store, application_id, spec).job_id
        if event is EventType.COMPLETED:
            jobs.report(store, application_id, Report(job_id, "complete"))
        elif event is EventType.FAILED:
            jobs.report(store, application_id, Report(job_id, "fail", error=b"1", retry=False))
        found.append((application_id, event, job_id))
    seen = {}
    for shard in set(shards):
        while batch := store.events.claim(shard, os.urandom(16)):
            for one in batch.events:
                seen[one.event.application_id, one.event.type, one.event.job_id] = one.candidates
            store.deliveries.create(shard, [], batch.id)
    return [seen.get(key, ()) for key in found]


def told(store: Store, event: EventType, queue: str, metadata: dict) -> set[str]:
    """Names of the subscriptions that hear of an event: candidates of the index, compared exactly."""
    (ids,) = candidates(store, (event, queue, metadata, APP))
    found = [one for one in store.subscriptions.get_many([(APP, raw) for raw in ids]) if one is not None]
    assert len(found) == len(ids)  # the index names nothing that is gone
    return {
        one.spec.name
        for one in found
        if one.spec.active and matching.matches(one.spec.events, one.spec.filters, event, queue, metadata)
    }


def subscribed(store: Store) -> int:
    return int(store.redis.hget(keys.prefix(APP) + b"app", "subscribed") or 0)


def test_what_was_created_reads_back_with_headers_masked(store):
    made = subscriptions.create(
        store,
        APP,
        body(
            description="d",
            method="PUT",
            events=["created", "*"],
            filters={"queues": ["email"], "metadata": {"n": 10**30, "deep": [{"a": None}]}},
            headers={"Authorization": "Bearer canary"},
            retryConfig={"maxAttempts": 3, "backoffMs": 500},
        ),
    )
    found = subscriptions.get(store, APP, made.subscription.id)
    receiver = subscriptions.receiver(store, subscriptions.get(store, APP, found.id))

    assert found == made.subscription and "canary" not in repr(found)
    assert found.spec.headers == {"Authorization": MASKED}
    assert found.spec.filters.metadata == {"n": 10**30, "deep": [{"a": None}]}
    assert (found.spec.method, found.spec.retry) == ("PUT", RetryConfig(3, 500))
    assert receiver.headers == {"Authorization": "Bearer canary"} and receiver.secrets == [made.secret]
    assert found.health.word == "unknown" and found.health.trigger_count == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": None}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"endpoint": "ftp://example.com"}, "endpoint"),
        ({"endpoint": "http://127.0.0.1/"}, "endpoint"),
        ({"endpoint": 5}, "endpoint"),
        ({"endpoint": {}}, "endpoint"),
        ({"endpoint": []}, "endpoint"),
        ({"events": []}, "events"),
        ({"events": ["done"]}, "events"),
        ({"events": "completed"}, "events"),
        ({"filters": {"queue": ["a"]}}, "filters.queue"),
        ({"filters": {"metadata": {"a": {"$gt": 1}}}}, "filters.metadata"),
        ({"method": "GET"}, "method"),
        ({"headers": {"Host": "x"}}, "headers.Host"),
        ({"headers": {"X-A": "a\r\nb"}}, "headers.X-A"),
        ({"headers": ["X-A"]}, "headers"),
        ({"retryConfig": {"maxAttempts": 21}}, "retryConfig.maxAttempts"),
        ({"retryConfig": {"maxRetries": 2}}, "retryConfig.maxRetries"),
        ({"active": "yes"}, "active"),
        ({"description": 3}, "description"),
        ({"evnts": []}, "evnts"),
    ],
)
def test_wrong_bodies_name_their_field_and_leave_nothing(store, changes, field):
    with pytest.raises(Refusal) as caught:
        subscribe(store, **changes)
    assert caught.value.code == Code.INVALID and list(caught.value.details) == [field]
    assert subscriptions.list_(store, APP) == ([], None)


def test_only_the_fields_sent_change(store):
    before = subscribe(store, headers={"X-A": "one", "X-B": "two"}, description="d")
    shown = {**before.spec.headers, "X-B": "three"}  # as a client sends back what GET showed it

    after = subscriptions.change(store, APP, before.id, {"headers": shown, "name": "other"})

    assert after.spec.name == "other" and after.spec.description == "d" and after.version == 2
    assert after.spec.endpoint == before.spec.endpoint and after.created_ms == before.created_ms
    assert subscriptions.receiver(store, subscriptions.get(store, APP, before.id)).headers == {
        "X-A": "one",
        "X-B": "three",
    }
    with pytest.raises(Refusal) as caught:
        subscriptions.change(store, APP, before.id, {"name": None})
    assert caught.value.details == {"name": ["must not be null"]}


def test_a_rotated_secret_signs_beside_the_old_one(store):
    made = subscriptions.create(store, APP, body())
    second = subscriptions.rotate_secret(store, APP, made.subscription.id)
    assert subscriptions.receiver(store, subscriptions.get(store, APP, made.subscription.id)).secrets == [
        second,
        made.secret,
    ]


def test_another_applications_subscription_is_as_unknown_as_any(store):
    one = subscribe(store)
    for call in (subscriptions.get, subscriptions.delete, subscriptions.rotate_secret):
        for subscription_id in (one.id, "0190a8c0-0000-7000-8000-000000000000", "nonsense", ""):
            with pytest.raises(Refusal) as caught:
                call(store, "app-another", subscription_id)
            assert caught.value.code == Code.NOT_FOUND and str(caught.value) == "There is no such subscription."
    assert subscriptions.get(store, APP, one.id) == one


def test_the_list_pages_by_age_and_filters(store):
    made = [
        subscribe(store, name=str(n), active=n % 2 == 0, filters={"queues": ["a"] if n < 4 else []}) for n in range(7)
    ]
    seen, cursor = [], None
    while True:
        page, cursor = subscriptions.list_(store, APP, limit=2, cursor=cursor)
        seen += page
        if cursor is None:
            break
    assert sorted(one.id for one in seen) == sorted(one.id for one in made)

    def names(**filters):
        return sorted(one.spec.name for one in subscriptions.list_(store, APP, **filters)[0])

    assert names(active=False) == ["1", "3", "5"]
    assert names(queue="b") == ["4", "5", "6"]
    assert names(queue="a", active=True, limit=1) and len(names(queue="a", active=True)) == 4
    assert subscriptions.list_(store, "app-another") == ([], None)


def test_an_event_finds_exactly_those_that_want_it(store):
    subscribe(store, name="all", events=["*"])
    subscribe(store, name="email", filters={"queues": ["email"]})
    subscribe(store, name="high", filters={"metadata": {"priority": "high", "type": "transactional"}})
    subscribe(store, name="one", filters={"metadata": {"n": 1}})
    subscribe(store, name="text", filters={"metadata": {"n": "1"}})
    subscribe(store, name="null", filters={"metadata": {"n": None}})
    subscribe(store, name="path", filters={"metadata": {"a.b": True}})
    subscribe(store, name="deep", filters={"metadata": {"a": {"b": True}}})
    subscribe(store, name="status", events=["*"], filters={"statuses": ["failed"]})
    subscribe(store, name="never", events=["completed"], filters={"statuses": ["failed"]})
    subscribe(store, name="off", active=False)
    done, failed = EventType.COMPLETED, EventType.FAILED

    assert told(store, done, "email", {}) == {"all", "email"}
    assert told(store, done, "email-bulk", {}) == {"all"}
    assert told(store, failed, "email", {}) == {"all", "status"}
    assert told(store, done, "x", {"priority": "high", "type": "transactional"}) == {"all", "high"}
    assert told(store, done, "x", {"priority": "high"}) == {"all"}
    assert told(store, done, "x", {"n": 1.0}) == {"all", "one"}
    assert told(store, done, "x", {"n": "1"}) == {"all", "text"}
    assert told(store, done, "x", {"n": True}) == {"all"}
    assert told(store, done, "x", {"n": None}) == {"all", "null"}
    assert told(store, done, "x", {"a": {"b": True}}) == {"all", "path", "deep"}
    assert told(store, done, "x", {"a.b": True}) == {"all", "path"}


def test_one_batch_answers_many_events_of_many_applications(store):
    subscribe(store, name="a", filters={"metadata": {"k": "v"}})
    other = subscribe(store, "app-another", name="b")
    first, second, third = candidates(
        store,
        (EventType.COMPLETED, "q", {"k": "v"}, APP),
        (EventType.COMPLETED, "q", {"k": "w"}, APP),
        (EventType.COMPLETED, "q", {"k": "v"}, "app-another"),
    )
    assert len(first) == 1 and second == () and third == (job_id_bytes(other.id),)


def test_what_nobody_can_want_is_never_queued(store):
    """Neither a subscription to the type elsewhere, nor one whose condition the job does not meet, makes it wait."""
    subscribe(store, events=["created"], filters={"queues": ["b"]})
    subscribe(store, events=["created"], filters={"metadata": {"k": "v"}})
    for queue, metadata, waiting in (("a", {}, 0), ("a", {"k": "w"}, 0), ("a", {"k": "v"}, 1), ("b", {}, 2)):
        fields = fields_of(metadata)
        spec = JobSpec(queue=queue, data=b"1", metadata=json.dumps(metadata).encode(), fields=fields)
        jobs.submit(store, APP, spec)
        assert store.events.pending(keys.shard_of(APP)) == waiting


def test_a_batch_stays_small_where_thousands_want_each_event(store):
    """Else its lease would end long before its deliveries are written."""
    subscribe(store, events=["created"])
    crowd = b"one of the crowd" * 9_000
    store.redis.hset(keys.prefix(APP) + b"match:n:*", matching.ANY_FIELD, crowd)
    jobs.submit_many(store, APP, [JobSpec(queue="q")] * 3)
    batch = store.events.claim(keys.shard_of(APP), os.urandom(16))
    assert batch is not None and len(batch.events) == 1
    assert store.events.pending(keys.shard_of(APP)) == 2


def test_the_mask_of_subscribed_types_follows_every_change(store):
    assert subscribed(store) == 0
    first = subscribe(store, events=["completed", "failed"])
    second = subscribe(store, events=["failed"], filters={"queues": ["a", "b"]})
    assert subscribed(store) == mask(["completed", "failed"])

    subscriptions.change(store, APP, first.id, {"events": ["created"]})
    assert subscribed(store) == mask(["created", "failed"])
    subscriptions.change(store, APP, second.id, {"active": False})
    assert subscribed(store) == mask(["created"])
    subscriptions.change(store, APP, second.id, {"active": True})
    assert subscribed(store) == mask(["created", "failed"])
    subscriptions.delete(store, APP, second.id)
    subscriptions.delete(store, APP, first.id)
    assert subscribed(store) == 0
    left = {key.removeprefix(keys.prefix(APP)) for key in store.redis.scan_iter(match=keys.prefix(APP) + b"*")}
    assert left == {b"app"}


def test_the_index_keeps_a_subscription_under_its_rarest_condition(store):
    """All share a long condition; each has a short one of its own. None meets the others."""
    shared = {"environment": "production-europe-west"}
    for n in range(50):
        subscribe(store, name=str(n), filters={"metadata": {**shared, "c": n}})
    metadata = {**shared, "c": 7}
    (ids,) = candidates(store, (EventType.COMPLETED, "q", metadata, APP))
    assert told(store, EventType.COMPLETED, "q", metadata) == {"7"}
    assert len(ids) <= 2


def test_the_cost_of_an_event_follows_its_matches(store, admin):
    """Among a thousand subscriptions the three that match cost the store as many commands as among ten."""
    applications = {"app-few": 10, "app-many": 1_000}
    for application_id, number in applications.items():
        model = subscribe(store, application_id, active=False, events=["created"])
        for n in range(number):
            filters = Filters(metadata={"customer": "c-1" if n < 3 else f"c-{n}", "kind": "order"})
            spec = replace(model.spec, filters=filters, active=True)
            store.subscriptions.create(replace(model, id=job_id_text(new_job_id()), spec=spec), ())
    metadata = {"customer": "c-1", "kind": "order", "x": 1}
    spec = JobSpec(queue="q", data=b"1", metadata=json.dumps(metadata).encode(), fields=fields_of(metadata))

    def commands(application_id: str) -> int:
        jobs.submit_many(store, application_id, [spec] * 50)
        admin.config_resetstat()
        shard = keys.shard_of(application_id)
        batch = store.events.claim(shard, os.urandom(16))
        assert batch is not None and len(batch.events) == 50
        assert len(events.deliveries_of(store, batch)) == 3 * 50
        spent = sum(one["calls"] for name, one in store.redis.info("commandstats").items() if "config" not in name)
        store.deliveries.create(shard, [], batch.id)
        return spent

    # once before, for what a process remembers afterwards
    assert commands("app-few") and commands("app-many")
    assert commands("app-many") == commands("app-few")


def test_two_changes_at_once_both_count(store):
    """The second writer read before the first wrote: it must read again, not overwrite."""
    one = subscribe(store)
    before, secrets = store.subscriptions.unsealed(one)
    subscriptions.change(store, APP, one.id, {"name": "first"})
    assert store.subscriptions.change(before, secrets) is False
    subscriptions.change(store, APP, one.id, {"description": "second"})
    found = subscriptions.get(store, APP, one.id)
    assert (found.spec.name, found.spec.description) == ("first", "second")


def test_secrets_are_sealed_and_the_key_can_be_rotated(store):
    store.secrets_key = KEY_1
    made = subscriptions.create(store, APP, body(headers={"X-A": "canary"}))

    store.secrets_key = f"{KEY_2},{KEY_1}"
    assert subscriptions.receiver(store, subscriptions.get(store, APP, made.subscription.id)).headers == {
        "X-A": "canary"
    }
    subscriptions.change(store, APP, made.subscription.id, {"name": "written by the new key"})

    store.secrets_key = KEY_2
    assert subscriptions.receiver(store, subscriptions.get(store, APP, made.subscription.id)).secrets == [made.secret]
    store.secrets_key = KEY_1
    with pytest.raises(SecretsKeyError) as caught:
        subscriptions.receiver(store, subscriptions.get(store, APP, made.subscription.id))
    assert KEY_1 not in str(caught.value)


def test_a_box_without_key_says_so_and_reads_on_when_a_key_arrives():
    plain, sealed = SecretBox(), SecretBox(KEY_1)
    assert sealed.open(plain.seal(b"s")) == b"s"
    for stored in (sealed.seal(b"s"), b"9?"):
        with pytest.raises(SecretsKeyError):
            plain.open(stored)
    with pytest.raises(SecretsKeyError):
        SecretBox("short")
    assert KEY_1 not in repr(sealed) and "webhooks" in DEFAULT_SCOPES
