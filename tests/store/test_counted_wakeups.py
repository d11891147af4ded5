"""Another broker carries the wake-ups: how many are believed to be on their way, and how that is corrected."""

from typing import Any

import pytest

from mech_queue.services import jobs
from mech_queue.store import Store, keys, wakeups
from mech_queue.store.deliveries import NewDelivery
from mech_queue.store.library import WINDOW
from tests.store.engine import APPLICATION, Engine

PLACE = keys.broker_list(APPLICATION, "mail")


class Sent:
    """What the scripts asked to publish, and where they asked how many wait."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.wakeups: list[tuple[str, int]] = []
        self.questions: list[tuple[str, int]] = []
        engine.store.scripts.publish = self._take

    def _take(self, asked: list[list[Any]]) -> None:
        for name, need, *generation in asked:
            if generation:
                self.questions.append((name.decode(), int(generation[0])))
            else:
                self.wakeups.append((name.decode(), int(need)))

    def since(self) -> int:
        """Wake-ups of the queue since this was asked last."""
        found = sum(need for name, need in self.wakeups if name == PLACE)
        self.wakeups.clear()
        return found

    def question(self) -> int:
        """Let the scheduler's repair come; returns the generation with which it asked about the queue."""
        self.questions.clear()
        self.engine.advance(500)
        return next(generation for name, generation in self.questions if name == PLACE)


@pytest.fixture
def sent(store: Store) -> Sent:
    """An application whose wake-ups another broker carries."""
    store.greet(initialise=True, counts_wakeups=True)
    return Sent(Engine(store))


def claim(sent: Sent) -> None:
    assert jobs.claim(sent.engine.store, APPLICATION, ["mail"], limit=1, worker_id="w").jobs


def test_nothing_is_pushed_into_the_store(sent: Sent) -> None:
    sent.engine.submit()
    assert sent.wakeups == [(PLACE, 1)]
    assert sent.engine.wake_ups("mail") == 0
    assert sent.engine.store.counts_wakeups()


def test_a_backlog_has_a_window_of_them_on_their_way(sent: Sent) -> None:
    for _ in range(WINDOW + 10):
        sent.engine.submit()
    assert sent.since() == WINDOW

    wakeups.arrived(sent.engine.store, PLACE, 3)
    claim(sent)

    assert sent.since() == 3


def test_one_that_arrived_for_nothing_does_not_stand_for_the_next_job(sent: Sent) -> None:
    sent.engine.submit()
    claim(sent)  # by an HTTP worker, so the wake-up finds nothing
    wakeups.arrived(sent.engine.store, PLACE, 1)
    sent.since()

    sent.engine.submit()

    assert sent.since() == 1


def test_a_job_submitted_while_the_last_one_arrives_is_woken_by_the_arrival(sent: Sent) -> None:
    sent.engine.submit()
    claim(sent)
    sent.since()
    sent.engine.submit()  # one is believed to be on its way
    assert sent.since() == 0

    wakeups.arrived(sent.engine.store, PLACE, 1)

    assert sent.since() == 1


def test_more_arrivals_than_were_sent_count_as_none_left(sent: Sent) -> None:
    sent.engine.submit()
    wakeups.arrived(sent.engine.store, PLACE, 5)
    assert sent.since() == 1 + 1


def test_wiped_ones_are_sent_again_at_the_next_look(sent: Sent) -> None:
    for _ in range(5):
        sent.engine.submit()
    assert sent.since() == 5
    generation = sent.question()
    assert sent.since() == 0

    wakeups.waiting(sent.engine.store, PLACE, 2, generation)

    assert sent.since() == 3


def test_a_look_that_others_overtook_is_ignored(sent: Sent) -> None:
    sent.engine.submit()
    generation = sent.question()
    wakeups.arrived(sent.engine.store, PLACE, 0)
    sent.since()

    wakeups.waiting(sent.engine.store, PLACE, 0, generation)

    assert sent.since() == 0


def test_a_whole_window_goes_out_when_busy_workers_hoard_them(sent: Sent) -> None:
    sent.engine.submit()
    for _ in range(2):  # each time the broker is found empty and the job unclaimed
        sent.since()
        wakeups.waiting(sent.engine.store, PLACE, 0, sent.question())
    assert sent.since() == WINDOW


def test_a_deleted_queue_stays_deleted(sent: Sent) -> None:
    wakeups.arrived(sent.engine.store, keys.broker_list(APPLICATION, "gone"), 1)
    assert list(sent.engine.store.redis.scan_iter(b"*gone*")) == []


def test_a_stage_has_one_wake_up_per_hundred_events(sent: Sent) -> None:
    engine = sent.engine
    stage = f"subscriptions.{engine.shard:02d}"
    engine.subscribe()
    for _ in range(101):
        engine.submit()
    assert [one for one in sent.wakeups if one[0] == stage] == [(stage, 1), (stage, 1)]

    # both were lost: the repair of application `~` asks, and sends them again
    sent.wakeups.clear()
    engine.now += 500
    engine.store.maintenance.run(engine.shard, keys.DELIVERIES)
    (generation,) = (number for name, number in sent.questions if name == stage)
    wakeups.waiting(engine.store, stage, 0, generation)
    assert sent.wakeups == [(stage, 2)]

    # one arrived and took them all: nothing is on its way that nobody needs
    engine.store.events.claim(engine.shard, b"batch", limit=1000)
    sent.wakeups.clear()
    wakeups.arrived(engine.store, stage, 1)
    assert sent.wakeups == []


def test_deliveries_are_counted_as_jobs_are(sent: Sent) -> None:
    engine = sent.engine
    stage = f"webhooks.{engine.shard:02d}"
    new = NewDelivery(APPLICATION, "created", engine.submit(), 1, engine.now, "mail", "http://127.0.0.1:9000/", b"{}")
    engine.store.deliveries.create(engine.shard, [new])
    assert (stage, 1) in sent.wakeups
    sent.wakeups.clear()

    engine.now += 500
    while engine.store.maintenance.run(engine.shard, keys.DELIVERIES)[0]:
        pass
    (generation,) = (number for name, number in sent.questions if name == stage)
    wakeups.waiting(engine.store, stage, 0, generation)

    assert (stage, 1) in sent.wakeups


def test_scripts_do_not_count_where_they_push(store: Store) -> None:
    engine = Engine(store)
    engine.submit()
    wakeups.arrived(store, PLACE, 1)
    assert engine.wake_ups("mail") == 1 and not store.counts_wakeups()
