"""Who is sent to next: turns and slots of applications and of their endpoints."""

from collections import Counter
from collections.abc import Iterable

import pytest
import redis

from mech_queue.model.delivery import Outcome
from mech_queue.services import deliveries
from mech_queue.store import keys
from mech_queue.store.deliveries import ClaimedDelivery, NewDelivery, Slots
from tests.services.pipeline import Pipeline

LEASE_MS = 30_000
WELL = Outcome(success=True, status=204)
PLENTY = Slots(endpoint=100, application=100)


def wait(pipeline: Pipeline, application_id: str, hosts: Iterable[str], each: int = 1) -> None:
    """Deliveries of an application that may be sent now, to ``each`` of its hosts so many."""
    made = [
        NewDelivery(application_id, "completed", f"{number:032x}", 1, 0, "email", f"http://{host}/", b"{}")
        for number in range(each)
        for host in hosts
    ]
    pipeline.store.deliveries.create(pipeline.shard, made)


def claim(pipeline: Pipeline, count: int) -> list[ClaimedDelivery]:
    """As many as may be sent now, at most ``count``, in their order."""
    found = (pipeline.store.deliveries.claim(pipeline.shard, LEASE_MS) for _ in range(count))
    return [one for one in found if one is not None]


def test_endpoints_take_turns(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = PLENTY
    wait(pipeline, "app-a", ["busy"], each=3)
    wait(pipeline, "app-a", ["calm"])
    assert [one.url for one in claim(pipeline, 9)] == [f"http://{host}/" for host in ("busy", "calm", "busy", "busy")]


def test_applications_take_turns_however_many_endpoints_they_have(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = PLENTY
    wait(pipeline, "app-a", ["a1", "a2", "a3"])
    wait(pipeline, "app-b", ["b1"], each=2)
    assert [one.application_id for one in claim(pipeline, 9)] == ["app-a", "app-b", "app-a", "app-b", "app-a"]


def test_slots_bound_what_one_endpoint_gets_at_a_time(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=2, application=100)
    wait(pipeline, "app-a", ["a1", "a2"], each=4)
    held = claim(pipeline, 9)
    assert Counter(one.url for one in held) == {"http://a1/": 2, "http://a2/": 2}
    # When one is over, then one more goes, to the same
    pipeline.store.deliveries.report(held[0], WELL, delay_ms=None, hold_ms=None)
    assert [one.url for one in claim(pipeline, 9)] == [held[0].url]


@pytest.mark.parametrize("each", [1, 4], ids=["many endpoints", "few endpoints"])
def test_slots_bound_what_one_application_gets_at_a_time(pipeline: Pipeline, each: int) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=2, application=3)
    wait(pipeline, "app-a", [f"a{number}" for number in range(8 // each)], each)
    wait(pipeline, "app-b", ["b"])
    held = claim(pipeline, 9)
    assert Counter(one.application_id for one in held) == {"app-a": 3, "app-b": 1}
    # When one of each is over, then the application with work gets its slot back, whoever's was over first
    for one in (held[1], held[0]):
        pipeline.store.deliveries.report(one, WELL, delay_ms=None, hold_ms=None)
    assert [one.application_id for one in claim(pipeline, 9)] == ["app-a"]


def test_an_interrupted_delivery_gives_the_slots_back(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=1, application=1)
    wait(pipeline, "app-a", ["a1"])
    wait(pipeline, "app-a", ["a2"])
    assert len(claim(pipeline, 9)) == 1
    pipeline.advance(LEASE_MS + 1)
    assert len(claim(pipeline, 9)) == 1


def test_other_slots_hold_for_those_who_wait_already(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=2, application=2)
    wait(pipeline, "app-a", ["a1", "a2", "a3"], each=4)
    assert len(claim(pipeline, 9)) == 2
    # When there are more, then at once; when there are fewer, when enough have ended
    for slots, more in ((Slots(2, 5), 3), (Slots(2, 1), 0)):
        pipeline.store.deliveries.slots = slots
        pipeline.store.deliveries.create(pipeline.shard, [])
        pipeline.advance(1)
        assert len(claim(pipeline, 9)) == more


def test_a_process_that_knows_no_slots_leaves_them_as_they_are(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=2, application=100)
    made = pipeline.subscribe("http://127.0.0.1:9999/")
    for slots in (pipeline.store.deliveries.slots, None):  # a stage, then the API
        pipeline.store.deliveries.slots = slots
        for _ in range(2):
            deliveries.send_test(pipeline.store, pipeline.application_id, made.subscription.id)
    assert len(claim(pipeline, 9)) == 2


def test_a_claim_costs_the_same_however_many_wait_or_are_blocked(pipeline: Pipeline, admin: redis.Redis) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=1, application=4)

    def commands(shard: int, crowd: int) -> int:
        """Of one claim beside so many applications without room, from one with ten times as many endpoints."""
        pipeline.shard = shard
        for number in range(crowd):
            wait(pipeline, f"app-{number}", [f"full{host}" for host in range(5)])
        assert len(claim(pipeline, 9 * crowd)) == 4 * crowd
        wait(pipeline, "app-a", [f"free{host}" for host in range(10 * crowd)])
        admin.config_resetstat()
        assert len(claim(pipeline, 1)) == 1
        return sum(int(one["calls"]) for one in admin.info("commandstats").values())

    few, many = commands(0, crowd=4), commands(1, crowd=20)
    assert many <= few  # of the few, some were spent on wake-ups


def test_nothing_stays_of_who_has_nothing_to_send(pipeline: Pipeline) -> None:
    pipeline.store.deliveries.slots = Slots(endpoint=1, application=2)
    wait(pipeline, "app-a", ["a1", "a2", "a3"], each=2)
    while held := claim(pipeline, 9):
        for one in held:
            pipeline.store.deliveries.report(one, WELL, delay_ms=None, hold_ms=None)
    place = keys.shard_prefix(pipeline.shard) + b"~:"
    kept = (place + name + b":" + keys.WEBHOOKS.encode() for name in (b"r", b"kt", b"kr", b"kl"))
    assert pipeline.store.redis.exists(*kept) == 0
    assert list(pipeline.store.redis.scan_iter(place + b"w:*")) == []
