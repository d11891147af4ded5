"""Requests in one thread: each gives way while it waits, and its end is its own."""

import asyncio
import threading

from greenlet import GreenletExit

from mech_queue.store.greenlets import MOST_IDLE, Event
from tests.support.loop import LoopThread


def test_an_outcome_or_an_error_belongs_to_its_request(loop: LoopThread) -> None:
    # given more requests than greenlets are kept, that all wait for each other
    events: list[Event] = []

    def work(number: int) -> int:
        event = loop.greenlets.event()
        events.append(event)
        assert event.wait(10)
        if number % 2:
            raise ValueError(number)
        return number

    async def run_all() -> list[int | BaseException]:
        runs = [loop.greenlets.run(work, number) for number in range(MOST_IDLE + 10)]
        for event in reversed(events):
            event.set()
        return list(await asyncio.gather(*runs, return_exceptions=True))

    # when they go on in another order, twice
    for _ in range(2):
        events.clear()
        outcomes = loop.wait_for(run_all())
        # then each has its own end
        assert [one if isinstance(one, int) else one.args[0] for one in outcomes] == list(range(MOST_IDLE + 10))
        assert all(isinstance(one, ValueError) for one in outcomes[1::2])


def test_what_blocks_runs_in_a_thread_and_holds_up_no_other_request(loop: LoopThread) -> None:
    # given a request that waits in a thread
    release = threading.Event()

    async def run_both() -> tuple[str, str]:
        blocked = loop.greenlets.run(loop.greenlets.aside, lambda: release.wait(10) and threading.current_thread().name)
        other = await loop.greenlets.run(lambda: threading.current_thread().name)
        assert not blocked.done()
        release.set()
        return str(await blocked), other

    # then another one is answered meanwhile, by the loop
    blocked, other = loop.wait_for(run_both())
    assert other == "loop"
    assert blocked != "loop"


def test_an_event_that_was_given_up_ends_the_request(loop: LoopThread) -> None:
    # given requests that wait, one for itself and one that will wait only later
    left: list[str] = []

    def work(early: bool) -> None:
        event = loop.greenlets.event()
        try:
            if not early:
                loop.greenlets.aside(threading.Event().wait, 0.05)
            event.wait(10)
        finally:
            left.append("early" if early else "late")

    async def run_both() -> list[BaseException | None]:
        runs = [loop.greenlets.run(work, early, waits=lambda event: asked.append(event)) for early in (True, False)]
        for event in asked:
            event.give_up()
        return list(await asyncio.gather(*runs, return_exceptions=True))

    asked: list[Event] = []
    # when their clients have gone
    outcomes = loop.wait_for(run_both())
    # then both end, cleaned up behind
    assert all(isinstance(one, GreenletExit) for one in outcomes)
    assert left == ["early", "late"]


def test_an_event_times_out(loop: LoopThread) -> None:
    assert loop.run(lambda: loop.greenlets.event().wait(0.01)) is False
