"""A store behind Sentinels: whoever is connected follows the name."""

from collections.abc import Iterator

import pytest

from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from mech_queue.store import Store, keys
from mech_queue.store.wakes import Wakes
from tests.store.test_connection import WAYS, Door, open_door
from tests.support import wait_until
from tests.support.loop import LoopThread
from tests.support.sentinel import SentinelGroup

APPLICATION = "app-sentinels000"


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    """A primary, a replica and one Sentinel."""
    made = SentinelGroup(replicas=1, sentinels=1)
    try:
        yield made.start()
    finally:
        made.close()


def test_a_primary_that_is_named_no_longer_is_left_although_it_goes_on(group: SentinelGroup, loop: LoopThread) -> None:
    # given open connections to the primary: of scripts, of plain commands and of a listener
    doors = [open_door(way, group.url, loop) for way in WAYS]
    for door in doors:
        submit(door)
    wakes = Wakes(doors[0].store, lambda *_: None, lambda: None)
    wakes.start()
    wait_until(wakes.listening.is_set)
    # when the Sentinel names another server, and the old one takes writes as before
    new = group.name_another()
    there = Store.open(new.url())
    # then new jobs are soon there, plain commands go there, and the listener listens there
    for door in doors:
        wait_until(lambda door=door: there.jobs.get_many(APPLICATION, [submit(door)]) != [None])  # type: ignore[misc]
        assert door.store.redis.info("server")["tcp_port"] == new.port
    with new.client() as client:
        wait_until(lambda: client.pubsub_numsub(keys.wake_channel(0))[0][1])
    wakes.stop()
    there.close()
    for door in doors:
        loop.call(door.store.close)


def submit(door: Door) -> str:
    """A new job's id."""
    return str(door.call(jobs.submit, door.store, APPLICATION, JobSpec("q")).job_id)
