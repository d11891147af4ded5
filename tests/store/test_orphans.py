"""After every job is gone, nothing of it is left: no key but those that are meant to stay."""

import fnmatch
from typing import Any

from mech_queue.model.job import Backoff, JobSpec, Report
from mech_queue.services import jobs, queues
from tests.store.engine import APPLICATION, Engine

# What stays: bounded by the number of applications, queues and workers, or gone by itself (TTL).
STAYS = [
    "mq:meta",
    "mq:{s??}:meta",
    "{S}totals",
    "{S}next",  # says when the event log ends
    "{P}app",
    "{P}ev",
    "{P}queues",
    "{P}q:*",
    "{P}m:*",
    "{P}workers",
    "{P}idem:*",
    "{P}nonce:*",
    "{P}dedupe:*",
]
MAY_STAY_WITH_TTL = ("idem:", "nonce:", "dedupe:")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"priority": 5},
    {"delay_ms": 1_000},
    {"concurrency_key": "k"},
    {"concurrency_key": "k", "delay_ms": 1_000},
    {"timeout_ms": 60_000},
    {"expires_in_ms": 3_000},
    {"task": "other.task"},
    {"metadata": b'{"k":"v"}', "fields": (("k", '"v"'),)},
    {"dedupe_key": "once"},
    {"dedupe_key": "once for a while", "dedupe_ttl_ms": 5_000},
    {"attempts": 2, "backoff": Backoff(delay_ms=500)},
    {"webhooks": {}},
]


def submit_all(engine: Engine) -> list[str]:
    """One job of every kind, then one that depends on the first."""
    made = [engine.submit(**options) for options in OPTIONS]
    made.append(engine.submit(depends_on=(made[0],), retention_seconds=0))
    made.append(engine.submit(depends_on=(made[0],), concurrency_key="k", expires_in_ms=90_000))
    return made


def work_all(engine: Engine, kind: Any, **more: Any) -> None:
    """A worker takes what there is and reports it."""
    for _ in range(20):
        taken = jobs.claim(engine.store, APPLICATION, ["mail"], limit=50, nonce=f"n{engine.now}", worker_id="w").jobs
        for job in taken:
            jobs.report(engine.store, APPLICATION, Report(job.id, kind, lease_token=job.lease_token, **more))
        engine.advance(1_000)


def left(engine: Engine) -> list[str]:
    """The keys that should not be there any more."""
    prefix = engine.prefix.decode()
    shard = prefix[: -len(engine.application_id) - 1]
    expected = [pattern.replace("{S}", shard).replace("{P}", prefix) for pattern in STAYS]
    return sorted(
        key
        for key in (raw.decode("latin-1") for raw in engine.store.redis.scan_iter(b"*"))
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in expected)
        and not key.startswith("jobs.")  # wake-ups that no worker came for: fungible, at most a window
    )


def retention_zero(engine: Engine) -> None:
    """Ended jobs go at the next tick."""
    engine.settings(keep_completed_s=0, keep_failed_s=0, keep_cancelled_s=0)


def assert_nothing_is_left(engine: Engine) -> None:
    """No job, no counter above zero, no key."""
    for _ in range(3):
        engine.advance(120_000)
    assert left(engine) == []
    totals = engine.store.maintenance.totals()
    assert totals == dict.fromkeys(totals, 0)
    for key in engine.store.redis.scan_iter(engine.prefix + b"*"):
        if any(part.encode() in key for part in MAY_STAY_WITH_TTL):
            assert engine.store.redis.pttl(key) > 0, key


def test_nothing_is_left_of_completed_jobs(engine: Engine) -> None:
    retention_zero(engine)
    engine.queue("mail", rate_max=5, rate_per=1_000, per_key=1, concurrency=3)
    submit_all(engine)
    work_all(engine, "complete", result=b"1", progress=b"100", metadata={"late": "yes"})
    assert_nothing_is_left(engine)


def test_nothing_is_left_of_failed_jobs(engine: Engine) -> None:
    retention_zero(engine)
    engine.settings(max=2)
    submit_all(engine)
    work_all(engine, "fail", error=b'"no"')
    assert_nothing_is_left(engine)


def test_nothing_is_left_of_cancelled_jobs(engine: Engine) -> None:
    retention_zero(engine)
    made = submit_all(engine)
    jobs.claim(engine.store, APPLICATION, ["mail"], limit=3)
    for job in reversed(made):
        jobs.cancel(engine.store, APPLICATION, job)
    assert_nothing_is_left(engine)


def test_nothing_is_left_of_deleted_jobs(engine: Engine) -> None:
    for job in submit_all(engine):
        jobs.log(engine.store, APPLICATION, job, ["a line"])
        jobs.delete(engine.store, APPLICATION, job)
    retention_zero(engine)
    assert_nothing_is_left(engine)


def test_nothing_is_left_of_purged_jobs(engine: Engine) -> None:
    retention_zero(engine)
    submit_all(engine)
    for _ in range(5):
        engine.store.jobs.submit(APPLICATION, [JobSpec(queue="mail") for _ in range(100)])
    assert queues.purge(engine.store, APPLICATION, "mail") == len(OPTIONS) + 2 + 500
    assert_nothing_is_left(engine)


def test_nothing_is_left_of_stalled_and_expired_jobs(engine: Engine) -> None:
    retention_zero(engine)
    submit_all(engine)
    for _ in range(5):
        jobs.claim(engine.store, APPLICATION, ["mail"], limit=50, lease_ms=5_000)
        engine.advance(6_000)
    assert_nothing_is_left(engine)


def test_nothing_is_left_of_retried_and_replaced_jobs(engine: Engine) -> None:
    engine.settings(keep_completed_s=1_000)
    made = submit_all(engine)
    work_all(engine, "complete")
    for job in made:
        found = engine.get(job)
        if found is not None and found.state.ended:
            jobs.retry(engine.store, APPLICATION, job)
    retention_zero(engine)
    engine.submit(dedupe_key="again", delay_ms=500)
    engine.submit(dedupe_key="again", delay_ms=900, debounce="replace", metadata=b'{"n":1}', fields=(("n", "1"),))
    work_all(engine, "complete")
    assert_nothing_is_left(engine)


def test_a_deleted_queue_leaves_only_the_application(engine: Engine) -> None:
    retention_zero(engine)
    engine.queue("mail", per_key=1, rate_max=5, rate_per=1_000)
    submit_all(engine)
    work_all(engine, "complete")
    engine.advance(120_000)
    queues.delete(engine.store, APPLICATION, "mail")
    engine.advance(1_000)
    assert left(engine) == []
    assert not [key for key in engine.store.redis.scan_iter(b"*") if b":q:" in key or b":m:" in key or b"jobs." in key]
    assert engine.store.redis.smembers(engine.prefix + b"queues") == set()
