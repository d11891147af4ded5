"""A store in cluster mode: each script stays inside the slot of its shard."""

from collections.abc import Iterator
from typing import Any

import pytest

from mech_queue.model.job import JobSpec, Report, State
from mech_queue.model.query import JobQuery
from mech_queue.services import explaining, jobs, queues
from mech_queue.store import Store, keys
from mech_queue.store.deliveries import NewDelivery
from mech_queue.store.library import entry_points
from tests.store.engine import APPLICATION, Engine
from tests.support.cluster import ValkeyCluster

SOME_ID = b"0123456789abcdef"


@pytest.fixture(
    scope="module", params=[1, pytest.param(3, marks=pytest.mark.long)], ids=["one-node", "three-primaries"]
)
def cluster(request: pytest.FixtureRequest) -> Iterator[ValkeyCluster]:
    """A cluster whose nodes own every slot between them."""
    running = ValkeyCluster(request.param)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def engine(cluster: ValkeyCluster) -> Iterator[Engine]:
    """An application on it; wake-ups are counted, since broker lists are in other slots."""
    cluster.flush()
    store = Store.open(cluster.url)
    store.greet(initialise=True, counts_wakeups=True)
    yield Engine(store)
    store.close()


def record_runs(engine: Engine) -> set[str]:
    """From now on the names of the scripts that run are kept here."""
    seen: set[str] = set()
    run = engine.store.scripts.run

    def recorded(name: str, *arguments: Any, **more: Any) -> Any:
        seen.add(name)
        return run(name, *arguments, **more)

    engine.store.scripts.run = recorded  # type: ignore[method-assign]
    return seen


def use_jobs(engine: Engine) -> None:
    """Everything that clients, workers and the scheduler do with jobs and queues."""
    store = engine.store
    engine.settings(max=2, keep_completed_s=1)
    engine.subscribe()
    engine.queue("mail", "k", per_key=1, rate_max=3, rate_per=500)
    first = engine.submit(concurrency_key="k", webhooks={"*": "http://127.0.0.1/"}, dedupe_key="d", expires_in_ms=5_000)
    second = engine.submit(delay_ms=1_000, concurrency_key="k", metadata=b'{"a":1}', fields=(("a", "1"),))
    child = engine.submit(depends_on=(first,))
    store.jobs.submit(APPLICATION, [JobSpec(queue="mail")] * 3, idempotency=None)
    jobs.submit(store, APPLICATION, JobSpec(queue="mail"), idempotency=("key", "hash"))
    jobs.change(store, APPLICATION, second, priority=3, metadata={"b": 2})
    jobs.set_webhooks(store, APPLICATION, second, {"failed": "http://127.0.0.1/f"})
    jobs.promote(store, APPLICATION, second)
    explaining.explain(store, APPLICATION, second)
    taken = jobs.claim(store, APPLICATION, ["mail", "none"], limit=1, nonce="n", worker_id="w").jobs[0]
    jobs.heartbeat(store, APPLICATION, taken.id, taken.lease_token)
    jobs.log(store, APPLICATION, taken.id, ["line"])
    started = jobs.start(store, APPLICATION, jobs.search(store, APPLICATION, JobQuery(states=())).jobs[0].id)
    jobs.report(store, APPLICATION, Report(started.job_id, "release", lease_token=started.lease_token))
    done = Report(taken.id, "complete", lease_token=taken.lease_token, result=b"1")
    jobs.exchange(store, APPLICATION, done, queue="none", lease_ms=5_000, worker_id="w", nonce="m")
    jobs.search(store, APPLICATION, JobQuery(queue="mail", fields=(("a", ("1",)),)))
    jobs.search(store, APPLICATION, JobQuery(queue="mail", states=(State.WAITING,)))
    jobs.cancel(store, APPLICATION, child)
    for _ in range(4):
        engine.advance(600)
    batch = store.events.claim(engine.shard, b"batch")
    assert batch is not None and batch.events
    store.deliveries.create(engine.shard, [], b"batch")
    jobs.retry(store, APPLICATION, child)
    jobs.delete(store, APPLICATION, child)
    queues.purge(store, APPLICATION, "mail")
    engine.advance(60_000)


def deliver(engine: Engine) -> None:
    """A delivery is made, sent, and sent again."""
    deliveries = engine.store.deliveries
    new = NewDelivery(APPLICATION, "completed", engine.submit(), 1, engine.now, "mail", "http://127.0.0.1:9000/", b"{}")
    assert deliveries.create(engine.shard, [new]) == 1
    claimed = deliveries.claim(engine.shard, 15_000)
    assert claimed is not None
    place: Any = {"shard": engine.shard}
    told = {"id": engine.raw(claimed.id), "token": claimed.lease_token, "ok": True, "status": 200, "ms": 3}
    engine.store.scripts.run("delivery_report", keys.DELIVERIES, told, **place)
    again = {"ids": [engine.raw(claimed.id)], "app": APPLICATION}
    assert engine.store.scripts.run("delivery_replay", keys.DELIVERIES, again, **place) == [1]


RAW: list[tuple[str, dict[str, Any]]] = [
    ("application_create", {"name": "a", "settings": "{}", "sealed": "", "created": 1, "limits": {"max": 1}}),
    ("application_change", {"version": 1, "limits": {"max": 3}}),
    ("key_add", {"id": "k", "record": "{}", "most": 5}),
    ("key_change", {"id": "k"}),
    (
        "subscription_create",
        {
            "id": SOME_ID,
            "body": "{}",
            "sealed": "",
            "active": True,
            "letters": "c",
            "places": ["c", "*"],
            "fields": ["abcdef"],
        },
    ),
    (
        "subscription_change",
        {
            "id": SOME_ID,
            "version": 1,
            "body": "{}",
            "sealed": "",
            "active": False,
            "letters": "",
            "places": [],
            "fields": [],
        },
    ),
    ("subscription_delete", {"id": SOME_ID, "field": b"123456"}),
    ("operation_step", {"id": "o", "create": {"action": "cancel", "filter": "{}"}}),
    ("schedule_put", {"id": SOME_ID, "version": 0, "fields": {"spec": ""}, "clear": [], "due": 5, "most": 9}),
    ("schedule_fire", {"id": SOME_ID, "version": 1, "expected": 5, "due": 5, "act": "miss", "reason": ""}),
    ("schedule_delete", {"id": SOME_ID}),
    ("wakeups_counted", {"queue": "mail", "arrived": 1}),
    ("worker_seen", {"kind": "native", "worker": "w", "queues": ["mail", "unknown"]}),
]


def test_every_script_runs_in_its_slot(cluster: ValkeyCluster, engine: Engine) -> None:
    seen = record_runs(engine)

    use_jobs(engine)
    for name, args in RAW:
        engine.store.scripts.run(name, APPLICATION, args)
    deliver(engine)
    engine.queue("empty")
    engine.store.scripts.run("queue_delete", APPLICATION, {"queue": "empty"})
    engine.store.scripts.run("application_delete", APPLICATION, {"field": "abcdef"})
    engine.advance(20_000)  # its data goes

    assert set(entry_points()) - seen == set()
    written = set().union(*cluster.keys().values())
    assert written and not [key for key in written if not key.startswith(b"mq:")], "a broker list was written"
