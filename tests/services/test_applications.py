"""Applications, keys and webhook secrets, against a real store."""

import pytest

from mech_queue.model import strict_json
from mech_queue.model.application import ALL_SCOPES, DEFAULT_SCOPES, MASTER, ApplicationSettings, RateLimit, Scope
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec
from mech_queue.model.schedule import ScheduleSpec, parse_schedule
from mech_queue.services import applications, deliveries, jobs, maintenance, schedules, subscriptions
from mech_queue.store import Store, keys
from tests.support.waiting import wait_until


def refused(code: Code, call, *args, **named) -> Refusal:
    """The refusal that a call ends in, which must have this code."""
    with pytest.raises(Refusal) as caught:
        call(*args, **named)
    assert caught.value.code == code
    return caught.value


def hourly() -> ScheduleSpec:
    """A schedule that is not due for long."""
    text = b'{"name":"s","every":3600000,"job":{"queue":"q0","data":1}}'
    parsed = strict_json.parse(text)
    return parse_schedule(parsed.value, parsed.members)


def dump(store: Store, raw: bytes) -> bytes:
    """All that is kept of a delivery, as bytes."""
    parts = [key for key in store.redis.scan_iter() if key.endswith(raw) and b":~:" in key]
    return b"".join(store.redis.dump(key) or b"" for key in parts)


def signing(store: Store, application_id: str) -> list[str]:
    """What signs its job webhooks now."""
    sealed = store.redis.hget(keys.prefix(application_id) + b"about", "sealed")
    return applications.webhook_secrets(store, sealed)


def another_process(store: Store) -> Store:
    """The same store, opened by somebody who remembers nothing."""
    return Store.open(store.url)


def test_a_new_application_has_a_key_that_opens_it(store):
    made = applications.create(store, "Shop", ApplicationSettings(rate_limit=RateLimit(5, 1_000)))

    caller = applications.authenticate(store, made.api_key)

    assert made.application.id.startswith("app-") and len(made.application.id) == 16
    assert caller is not None and caller.application_id == made.application.id
    assert caller.scopes == DEFAULT_SCOPES and Scope.ADMIN not in caller.scopes
    assert caller.settings.rate_limit == RateLimit(5, 1_000) and not caller.master
    assert made.webhook_secret.startswith("whsec_")
    assert signing(store, made.application.id) == [made.webhook_secret]


@pytest.mark.parametrize("key", ["", "sk_unknown", "x" * 10_000, "sk_\udcff", "sk_ä"])
def test_other_keys_open_nothing(store, key):
    applications.create(store, "Shop")
    assert applications.authenticate(store, key) is None


def test_neither_keys_nor_secrets_stand_in_the_store_or_in_reprs(store):
    store.secrets_key = "kO9g2wPlvCm0fzlmqGuW8PSm1nJ-hUBTOAJqEAcuGJ8="
    made = applications.create(store, "Shop")
    new = applications.add_key(store, made.application.id)
    hook = subscriptions.create(
        store,
        made.application.id,
        {"name": "a", "endpoint": "https://example.com", "events": ["*"], "headers": {"X-Token": "canary-9"}},
    )

    dump = b"".join(store.redis.dump(key) for key in store.redis.scan_iter())
    shown = repr((made, new, hook, applications.keys(store, made.application.id)))

    for canary in (made.api_key, made.webhook_secret, new.api_key, hook.secret, "canary-9"):
        assert canary.encode() not in dump
        assert canary not in shown


def test_settings_merge_and_null_takes_a_limit_away(store):
    made = applications.create(store, "Shop")
    application_id = made.application.id
    first = {"maxConcurrentJobs": 3, "retention": {"failedSeconds": 60}, "metadata": {"env": "prod", "n": 10**30}}
    applications.change(store, application_id, settings=first)

    changed = applications.change(
        store,
        application_id,
        name="Shop 2",
        settings={
            "maxConcurrentJobs": None,
            "maxWaiting": 9,
            "retention": {"completedCount": 5},
            "metadata": {"env": None},
        },
    )

    assert changed.name == "Shop 2"
    assert changed.settings.to_json() == {
        "maxConcurrentJobs": None,
        "maxWaiting": 9,
        "allowedQueues": ["*"],
        "rateLimit": None,
        "retention": {
            "completedSeconds": None,
            "completedCount": 5,
            "failedSeconds": 60,
            "failedCount": None,
            "cancelledSeconds": None,
            "cancelledCount": None,
        },
        "metadata": {"n": 10**30},
    }
    assert store.redis.hmget(keys.prefix(application_id) + b"app", "max", "max_waiting", "keep_failed_s") == [
        None,
        b"9",
        b"60",
    ]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"maxConcurrentJobs": 0}, "settings.maxConcurrentJobs"),
        ({"maxConcurrentJobs": True}, "settings.maxConcurrentJobs"),
        ({"maxWaiting": "9"}, "settings.maxWaiting"),
        ({"allowedQueues": ["a b"]}, "settings.allowedQueues.0"),
        ({"allowedQueues": "email"}, "settings.allowedQueues"),
        ({"rateLimit": {"perMs": 1000}}, "settings.rateLimit"),
        ({"rateLimit": {"max": 5, "perMs": 1}}, "settings.rateLimit.perMs"),
        ({"retention": {"completedSecond": 1}}, "settings.retention.completedSecond"),
        ({"metadata": []}, "settings.metadata"),
        ({"maxConcurentJobs": 1}, "settings.maxConcurentJobs"),
        ([], "settings"),
    ],
)
def test_wrong_settings_name_their_field_and_change_nothing(store, settings, field):
    made = applications.create(store, "Shop")
    refusal = refused(Code.INVALID, applications.change, store, made.application.id, settings=settings)
    assert list(refusal.details) == [field]
    assert applications.get(store, made.application.id) == made.application


def test_max_concurrent_jobs_is_enforced_and_raising_it_wakes(store):
    made = applications.create(store, "Shop", ApplicationSettings(max_concurrent_jobs=2))
    application_id = made.application.id
    for _ in range(5):
        jobs.submit(store, application_id, JobSpec("email"))

    first = jobs.claim(store, application_id, ["email"], limit=5, worker_id="w")
    applications.change(store, application_id, settings={"maxConcurrentJobs": 4})
    second = jobs.claim(store, application_id, ["email"], limit=5, worker_id="w")

    assert len(first.jobs) == 2 and len(second.jobs) == 2


def test_a_revoked_key_stops_here_at_once_and_elsewhere_within_the_cache(store, monkeypatch):
    made = applications.create(store, "Shop")
    elsewhere = another_process(store)
    monkeypatch.setattr(applications, "CACHE_S", 0.3)
    assert applications.authenticate(store, made.api_key) and applications.authenticate(elsewhere, made.api_key)

    applications.revoke_key(store, made.application.id, made.key.id)

    assert applications.authenticate(store, made.api_key) is None
    wait_until(lambda: applications.authenticate(elsewhere, made.api_key) is None, 2)
    assert applications.keys(store, made.application.id) == []
    assert store.redis.hlen(keys.API_KEYS) == 0
    refused(Code.NOT_FOUND, applications.revoke_key, store, made.application.id, made.key.id)
    elsewhere.close()


def test_rotation_lets_both_keys_work_until_the_overlap_ends(store):
    made = applications.create(store, "Shop")
    scopes = frozenset({Scope.READ})

    new = applications.add_key(store, made.application.id, scopes=scopes, replaces=made.key.id, overlap_s=60)

    old, fresh = applications.authenticate(store, made.api_key), applications.authenticate(store, new.api_key)
    assert old is not None and fresh is not None and fresh.scopes == scopes
    expiring = next(key for key in applications.keys(store, made.application.id) if key.id == made.key.id)
    assert expiring.expires_ms is not None and 0 < expiring.expires_ms - new.record.created_ms <= 60_000

    applications.add_key(store, made.application.id, replaces=made.key.id, overlap_s=0)
    assert applications.authenticate(store, made.api_key) is None
    refused(Code.NOT_FOUND, applications.add_key, store, made.application.id, replaces="key-unknown")


def test_a_key_with_an_expiry_stops_by_itself(store):
    made = applications.create(store, "Shop")
    new = applications.add_key(store, made.application.id, expires_in_s=1)
    assert applications.authenticate(store, new.api_key) is not None
    wait_until(lambda: applications.authenticate(store, new.api_key) is None, 3)
    assert applications.authenticate(store, made.api_key) is not None


def test_a_key_whose_revocation_was_killed_half_way_opens_nothing(store):
    """A way in ``mq:keys`` without its record: the process died between the two writes."""
    made = applications.create(store, "Shop")
    store.redis.hdel(keys.prefix(made.application.id) + b"keys", made.key.id)
    assert applications.authenticate(store, made.api_key) is None


def test_rotated_webhook_secrets_overlap(store):
    made = applications.create(store, "Shop")
    application_id = made.application.id

    second = applications.rotate_webhook_secret(store, application_id)
    assert signing(store, application_id) == [second, made.webhook_secret]

    third = applications.rotate_webhook_secret(store, application_id, overlap_s=0)
    assert signing(store, application_id) == [third, made.webhook_secret]
    for _ in range(9):
        applications.rotate_webhook_secret(store, application_id)
    refused(Code.CONFLICT, applications.rotate_webhook_secret, store, application_id)


def test_the_list_pages_by_age_and_leaves_out_ghosts_and_the_built_in(store):
    applications.ensure_master(store)
    made = [applications.create(store, f"app {n}").application.id for n in range(5)]
    store.redis.zadd(keys.APPLICATIONS, {"app-ghost": 1})  # a create that was killed, long ago

    seen, cursor = [], None
    while True:
        page, cursor = applications.list_(store, limit=2, cursor=cursor)
        seen += [one.id for one in page]
        if cursor is None:
            break

    assert sorted(seen) == sorted(made)
    assert store.redis.zcard(keys.APPLICATIONS) == 5
    assert sorted(store.metrics.application_ids()) == sorted([MASTER, *made])  # the exporter reads the same list


def test_applications_of_the_same_millisecond_are_each_listed_once(store):
    made = [applications.create(store, f"app {n}").application.id for n in range(7)]
    store.redis.zadd(keys.APPLICATIONS, dict.fromkeys(made, 1_700_000_000_000))
    seen, cursor = [], None
    while True:
        page, cursor = applications.list_(store, limit=2, cursor=cursor)
        seen += [one.id for one in page]
        if cursor is None:
            break
    assert seen == sorted(made)


def test_the_master_key_acts_for_the_built_in_application_or_a_named_one(store):
    made = applications.create(store, "Shop")
    own, named = applications.master_caller(store, MASTER), applications.master_caller(store, made.application.id)

    assert own.application_id == MASTER and own.master and own.scopes == ALL_SCOPES
    assert named.application_id == made.application.id and named.master
    refused(Code.NOT_FOUND, applications.master_caller, store, "app-unknown")
    refused(Code.CONFLICT, applications.delete, store, MASTER)
    assert len(signing(store, MASTER)) == 1


def test_ensuring_the_built_in_application_twice_keeps_its_secret(store):
    applications.ensure_master(store)
    before = signing(store, MASTER)
    applications.ensure_master(store)
    assert signing(store, MASTER) == before


def test_a_deleted_application_stops_at_once_and_leaves_nothing(store, monkeypatch):
    kept = applications.create(store, "kept")
    made = applications.create(store, "Shop", ApplicationSettings(max_concurrent_jobs=3))
    application_id = made.application.id
    hook = {"name": "a", "endpoint": "https://example.com", "events": ["*"]}
    subscription_id = subscriptions.create(store, application_id, hook).subscription.id
    for _ in range(3):
        deliveries.send_test(store, application_id, subscription_id)
    other_hook = subscriptions.create(store, kept.application.id, hook).subscription.id
    kept_delivery = deliveries.send_test(store, kept.application.id, other_hook)
    parent = jobs.submit(store, application_id, JobSpec("q0"))
    jobs.submit(store, application_id, JobSpec("q0", depends_on=(parent.job_id,)))
    for n in range(450):
        spec = JobSpec(f"q{n % 3}", fields=(("n", str(n)),), concurrency_key=f"k{n % 2}" if n % 5 else None)
        spec.delay_ms = 60_000 if n % 7 == 0 else None
        jobs.submit(store, application_id, spec)
    schedules.create(store, application_id, hourly())
    claimed = jobs.claim(store, application_id, ["q0", "q1"], limit=3, worker_id="w").jobs
    assert len(claimed) == 3
    jobs.submit(store, kept.application.id, JobSpec("q0"))

    applications.delete(store, application_id)

    assert applications.authenticate(store, made.api_key) is None
    assert applications.authenticate(another_process(store), made.api_key) is None
    refused(Code.NOT_FOUND, applications.get, store, application_id)
    refused(Code.NOT_FOUND, applications.delete, store, application_id)
    assert [one.id for one in applications.list_(store)[0]] == [kept.application.id]

    seconds, _ = store.redis.time()
    later, due = seconds * 1000 + 30_000, store.maintenance.due
    store.scripts.clock = lambda: later
    monkeypatch.setattr(store.maintenance, "due", lambda: due(later))
    for _ in range(10):
        maintenance.tick(store)
    left = [key for key in store.redis.scan_iter() if application_id.encode() in key]
    assert left == []
    place = keys.shard_prefix(keys.shard_of(application_id)) + b"~:"
    mine = [raw for raw in store.redis.zrange(place + b"all", 0, -1) if application_id.encode() in dump(store, raw)]
    assert mine == [] and not any(application_id.encode() in key for key in store.redis.zrange(place + b"due", 0, -1))
    assert deliveries.get(store, kept.application.id, kept_delivery).id == kept_delivery
    refused(Code.NOT_FOUND, subscriptions.get, store, application_id, subscription_id)
    assert maintenance.counts(store)["waiting"] == 1
    assert jobs.claim(store, kept.application.id, ["q0"], worker_id="w").jobs
