"""The list of waiting jobs as workers will get them: its order, and its pages while jobs come and go."""

from collections.abc import Mapping

import pytest

from mech_queue.model.errors import Refusal
from mech_queue.model.job import JobSpec, State
from mech_queue.model.query import JobQuery
from mech_queue.services import jobs, queues, searching
from mech_queue.store import Store

APPLICATION = "app-upcoming0000"


def submit(store: Store, *options: Mapping[str, object]) -> list[str]:
    """Jobs of queue ``q``; returns their ids."""
    return [jobs.submit(store, APPLICATION, JobSpec("q", **one)).job_id for one in options]  # type: ignore[arg-type]


def page(store: Store, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
    """Ids and the next cursor."""
    query = JobQuery(queue="q", states=(State.WAITING,), limit=limit, cursor=cursor)
    found = searching.search(store, APPLICATION, query)
    return [job.id for job in found.jobs], found.next_cursor


def claimed(store: Store, limit: int) -> list[str]:
    """What workers get."""
    return [job.id for job in jobs.claim(store, APPLICATION, ["q"], limit=limit).jobs]


def test_pages_neither_repeat_nor_skip_a_job_that_stays(store: Store) -> None:
    # given jobs of three priorities, of which a page was seen
    ids = submit(store, *({"priority": at % 3} for at in range(12)))
    ordered = [*ids[2::3], *ids[1::3], *ids[0::3]]
    seen, cursor = page(store, 5)
    assert seen == ordered[:5]
    # when workers take six, among them the last one seen, and others come
    assert claimed(store, 6) == ordered[:6]
    submit(store, {"priority": 2}, {"priority": 2})
    (last,) = submit(store, {"priority": 0})
    # then the next pages go on behind the last one seen
    second, cursor = page(store, 3, cursor)
    third, cursor = page(store, 100, cursor)
    assert second + third == [*ordered[6:], last]
    assert cursor is None


def test_keys_take_turns_and_those_at_their_limit_come_last(store: Store) -> None:
    # given a queue that runs one job per key, and one of key a runs
    queues.change(store, APPLICATION, "q", {"per_key": 1})
    submit(store, {"concurrency_key": "a"})
    claimed(store, 1)
    a1, a2, b1, b2, urgent, plain, c1 = submit(
        store,
        *({"concurrency_key": key} for key in "aabb"),
        {"concurrency_key": "b", "priority": 5},
        {},
        {"concurrency_key": "c"},
    )
    # then: by priority, in turns, blocked ones by age; and nothing is shown twice on a page
    assert page(store, 100) == ([urgent, plain, c1, b1, b2, a1, a2], None)
    # when it is read in small pages: the same, but that what follows by age is all there is
    first, cursor = page(store, 3)
    second, cursor = page(store, 2, cursor)
    assert first + second == [urgent, plain, c1, b1, b2]
    rest, cursor = page(store, 100, cursor)
    assert rest == [a1, a2, b1, b2, urgent, plain, c1]
    assert cursor is None


def test_a_key_that_comes_meanwhile_makes_no_job_vanish(store: Store) -> None:
    ids = submit(store, *({} for _ in range(6)))
    first, cursor = page(store, 2)
    keyed = submit(store, {"concurrency_key": "a"})
    rest, cursor = page(store, 100, cursor)
    assert set(ids + keyed) == set(first + rest) and cursor is None


def test_turns_are_foretold_so_far_and_then_all_follow_by_age(store: Store) -> None:
    specs: list[JobSpec | Refusal] = [
        JobSpec("q", concurrency_key=f"k{at % 7}", priority=-at // 600) for at in range(1_300)
    ]
    ids = [one.job_id for one in jobs.submit_many(store, APPLICATION, specs) if not isinstance(one, Refusal)]
    first, cursor = page(store, 1_000)
    assert first == claimed(store, 100) + first[100:] and len(set(first)) == 1_000
    rest, cursor = page(store, 1_000, cursor)
    assert rest == ids[100:1_100]
    assert page(store, 1_000, cursor) == (ids[1_100:], None)


@pytest.mark.parametrize("cursor", ["", "AAAA", "_" * 11, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_what_is_no_cursor_is_refused(store: Store, cursor: str) -> None:
    submit(store, {})
    with pytest.raises(Refusal, match="nextCursor"):
        page(store, 1, cursor)
