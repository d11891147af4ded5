"""The event log, followed live."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from mech_queue.model.event import EventType
from mech_queue.model.job import JobSpec
from mech_queue.model.metadata import accepted
from mech_queue.services import jobs
from mech_queue.services.streams import Filter, Streamed, Streams
from mech_queue.store import Store
from tests.support import wait_until

APPLICATION = "app-streamstests"


def events_of(found: Iterator[Streamed | None], many: int) -> list[tuple[str, str]]:
    """The next ``many`` (queue, type) that a reader gets."""
    got: list[tuple[str, str]] = []
    while len(got) < many:
        one = next(found)
        if one is not None:
            assert one.event is not None
            got.append((one.queue, one.event.type.value))
    return got


def test_reader_gets_what_happens_after_it_came_and_what_its_filters_want(store: Store) -> None:
    # given a job from before, and a reader of one queue's created and cancelled events
    jobs.submit(store, APPLICATION, JobSpec("email"))
    before = store.events.last_ids([APPLICATION])[0]
    reader = Streams(store).follow(APPLICATION, Filter(("created", "cancelled"), ("email",)), before)
    # when jobs of two queues come, and one is cancelled
    jobs.submit(store, APPLICATION, JobSpec("other"))
    job = jobs.submit(store, APPLICATION, JobSpec("email"))
    jobs.start(store, APPLICATION, job.job_id)
    jobs.cancel(store, APPLICATION, job.job_id)
    # then only those come, in order
    assert events_of(reader, 2) == [("email", "created"), ("email", "cancelled")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("3", ["3", '"3"']), ('"3"', ['"3"']), ("true", ["true", '"true"']), ("03", ['"03"']), ("4", [])],
)
def test_a_metadata_filter_finds_what_a_search_finds(store: Store, text: str, wanted: list[str]) -> None:
    # given jobs whose metadata has a number, booleans and strings, flat and nested
    start = store.events.last_ids([APPLICATION])[0]
    for name in ("k", "a.b"):
        for value in ("3", '"3"', "true", '"true"', '"03"', "null"):
            raw = f'{{"k": {value}}}' if name == "k" else f'{{"a": {{"b": {value}}}}}'
            jobs.submit(store, APPLICATION, JobSpec("q", metadata=raw.encode()))
    jobs.submit(store, APPLICATION, JobSpec("end"))
    for name in ("k", "a.b"):
        # when a reader asks for one of them
        page = store.events.read(APPLICATION, start, 100)
        filters = Filter(fields=((name, accepted(text)),))
        found = Streams(store)._matching(APPLICATION, page, filters)
        # then it gets those that the same words find in a search
        values = [json.loads(one.metadata) for one in found]
        assert [json.dumps(one.get("k", one.get("a", {}).get("b"))) for one in values] == wanted


def test_last_event_id_resumes_without_loss(store: Store) -> None:
    # given a reader that saw the first of three events
    start = store.events.last_ids([APPLICATION])[0]
    for queue in ("a", "b", "c"):
        jobs.submit(store, APPLICATION, JobSpec(queue))
    first = next(Streams(store).follow(APPLICATION, Filter(), start))
    assert first is not None and first.queue == "a"
    # when it comes back with that id
    again = Streams(store).follow(APPLICATION, Filter(), first.id)
    # then it gets the other two
    assert events_of(again, 2) == [("b", "created"), ("c", "created")]


def test_an_id_older_than_the_log_is_told_as_a_gap(store: Store) -> None:
    # given events, and an id from before all of them
    jobs.submit(store, APPLICATION, JobSpec("a"))
    reader = Streams(store).follow(APPLICATION, Filter(), "1-0")
    # then the reader first hears of the gap, then what the log has
    gap = next(reader)
    assert gap is not None and gap.event is None
    one = next(reader)
    assert one is not None and one.event is not None and one.event.type is EventType.CREATED


def test_an_id_of_two_days_ago_is_a_gap_also_when_the_log_is_empty(store: Store) -> None:
    reader = Streams(store).follow(APPLICATION, Filter(), f"{store.now_ms() - 2 * 86_400_000}-0")
    gap = next(reader)
    assert gap is not None and gap.event is None


def test_an_idle_reader_does_not_ask_the_store(store: Store, admin: redis.Redis) -> None:
    # given a reader to whom nothing happens
    reader = Streams(store).follow(APPLICATION, Filter(), None)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(lambda: events_of(reader, 1))
        admin.config_resetstat()

        def calls(command: str) -> int:
            return int(store.redis.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

        try:
            # when the process has looked at the log for more than two seconds, for all its readers together
            wait_until(lambda: calls("xrevrange") >= 22, 20)
            asked = calls("xrange")
        finally:
            jobs.submit(store, APPLICATION, JobSpec("email"))
        # then the reader has asked once, when it came; and still hears what happens
        assert got.result(10) == [("email", "created")]
        assert asked <= 1
