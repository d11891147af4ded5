"""Rate limits: per key, per address without a key; over processes; without the store."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from api import limits
from api.app import create_app, runtime_of
from config.settings import Settings
from mech_queue.model.application import RateLimit
from mech_queue.services.rates import Rates, Standing
from mech_queue.store import Store
from mech_queue.store.rates import RateCounters
from tests.api.conftest import Api, World
from tests.support.loop import LoopThread
from tests.support.valkey import ValkeyServer, free_port

DAY_MS = 86_400_000
NOW = 1_800_000_000.5


@pytest.fixture
def counters(redis_url: str) -> Iterator[RateCounters]:
    opened = RateCounters.open(redis_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tight(make_world: Any) -> World:
    """Five requests a day."""
    world: World = make_world(rate_limit_max_requests=5, rate_limit_window_ms=DAY_MS)
    return world


@pytest.mark.parametrize("lane", ["app", "plain"])
def test_beyond_the_limit_is_429_with_retry_after(tight: World, lane: str) -> None:
    api = tight.application(getattr(tight, lane))
    for left in (4, 3, 2, 1, 0):
        answer = api.post("/api/jobs", {"queue": "q", "data": 1})
        assert answer.status_code == 201
        assert answer.headers["X-RateLimit-Limit"] == "5"
        assert answer.headers["X-RateLimit-Remaining"] == str(left)
        assert "Retry-After" not in answer.headers
    for path in ("/api/jobs", "/api/queues"):
        over = api.get(path)
        assert (over.status_code, over.json["code"]) == (429, "RATE_LIMITED"), path
        assert 1 <= int(over.headers["Retry-After"]) <= 86_400
        assert over.headers["X-RateLimit-Remaining"] == "0"
        assert abs(int(over.headers["X-RateLimit-Reset"]) - time.time() - int(over.headers["Retry-After"])) < 3


def test_both_lanes_and_all_routes_share_one_counter(tight: World) -> None:
    api = tight.application()
    plain = Api(tight.plain.test_client(), api.headers)
    for send in (lambda: api.post("/api/jobs", {"queue": "q", "data": 1}), lambda: api.get("/api/queues")) * 2:
        assert send().status_code < 300
    assert plain.get("/api/jobs").headers["X-RateLimit-Remaining"] in ("0", "4")  # another process may hold a slice
    assert api.get("/api/jobs").status_code == 429


@pytest.mark.parametrize("lane", ["app", "plain"])
def test_reports_of_work_are_never_refused(tight: World, lane: str) -> None:
    api = tight.application(getattr(tight, lane))
    job_id = api.submit()
    while api.get("/api/jobs").status_code != 429:
        pass
    assert api.put(f"/api/jobs/{job_id}", {"status": "started"}).status_code == 200
    assert api.post(f"/api/jobs/{job_id}/heartbeat").status_code == 200
    assert api.post(f"/api/jobs/{job_id}/logs", {"lines": ["x"]}).status_code == 200
    assert api.post("/api/jobs/updates", {"updates": []}).status_code == 200
    done = api.put(f"/api/jobs/{job_id}", {"status": "completed"})
    assert done.status_code == 200
    assert "X-RateLimit-Limit" not in done.headers


def test_without_a_valid_key_the_address_is_counted(tight: World) -> None:
    wrong = Api(tight.app.test_client(), {"x-api-key": "sk_wrong"})
    seen = [wrong.put("/api/jobs/0192f0c1-7b7e-7000-8000-000000000001", {}).status_code for _ in range(4)]
    seen += [wrong.get("/api/queues").status_code for _ in range(4)]
    assert seen == [401] * 5 + [429] * 3
    assert tight.application().get("/api/queues").status_code == 200
    for path in ("/health", "/", "/openapi.json", "/docs"):
        assert wrong.get(path).status_code == 200, path


def test_an_application_may_have_a_limit_of_its_own(world: World) -> None:
    api = world.application(rate_limit=RateLimit(2, DAY_MS))
    assert [api.get("/api/queues").status_code for _ in range(3)] == [200, 200, 429]
    hot = world.application(rate_limit=RateLimit(2, DAY_MS))
    assert [hot.post("/api/queues/q/claim").status_code for _ in range(3)] == [200, 200, 429]


def test_forwarded_addresses_are_believed_as_far_as_proxies_are_trusted(make_world: Any) -> None:
    limits = {"rate_limit_max_requests": 1, "rate_limit_window_ms": DAY_MS}
    trusting = Api(make_world(trusted_proxy_hops=1, **limits).app.test_client())
    assert trusting.get("/api/queues", X_Forwarded_For="9.9.9.9, 1.1.1.1").status_code == 401
    assert trusting.get("/api/queues", X_Forwarded_For="8.8.8.8, 1.1.1.1").status_code == 429
    assert trusting.get("/api/queues", X_Forwarded_For="1.1.1.1, 2.2.2.2").status_code == 401
    strict = Api(make_world(**limits).app.test_client())
    assert strict.get("/api/queues", X_Forwarded_For="1.1.1.1").status_code == 401
    assert strict.get("/api/queues", X_Forwarded_For="2.2.2.2").status_code == 429


def test_many_processes_together_never_exceed_the_limit(redis_url: str) -> None:
    # given four processes, each with its own connections
    opened = [RateCounters.open(redis_url) for _ in range(4)]
    processes = [Rates(one, now=lambda: NOW) for one in opened]
    # when they take turns until nobody gets anything
    allowed = sum(process.hit("k", 1_000, 60_000).allowed for _ in range(400) for process in processes)
    # then exactly the limit was allowed
    assert allowed == 1_000
    for one in opened:
        one.close()


def test_most_requests_pay_no_round_trip(counters: RateCounters) -> None:
    taken: list[int] = []

    class Counting(RateCounters):
        def take(self, key: str, amount: int, ends_at_ms: int) -> int:
            taken.append(amount)
            return counters.take(key, amount, ends_at_ms)

    rates = Rates(Counting(counters._nodes), now=lambda: NOW)
    standings = [rates.hit("k", 1_000, 60_000) for _ in range(100)]
    assert taken == [10] * 10
    assert [standing.remaining for standing in standings] == list(range(999, 899, -1))


@pytest.mark.parametrize("limit", [1_000, 300])
def test_requests_of_a_loop_do_not_wait_for_each_others_slices(
    counters: RateCounters, loop: LoopThread, limit: int
) -> None:
    # given a counter that answers only when it is let
    let, amounts = threading.Event(), []

    class Slow(RateCounters):
        def take(self, key: str, amount: int, ends_at_ms: int) -> int:
            amounts.append(amount)
            assert let.wait(10)
            return counters.take(key, amount, ends_at_ms)

    rates = Rates(Slow(counters._nodes), now=lambda: NOW, aside=loop.greenlets.aside)

    async def hit_often() -> list[Standing]:
        hits = [loop.greenlets.run(rates.hit, "k", limit, 60_000) for _ in range(400)]
        # when many requests come while the first is at the counter
        assert await loop.greenlets.run(lambda: "another request") == "another request"
        assert not any(hit.done() for hit in hits)
        let.set()
        return list(await asyncio.gather(*hits))

    standings = loop.wait_for(hit_often())
    # then one has taken a slice, the others no more than they need
    assert sorted(amounts) == [1] * 399 + [limit // 100]
    # and exactly the limit is allowed, with what is left of the slice
    while (late := rates.hit("k", limit, 60_000)).allowed:
        standings.append(late)
    assert sum(standing.allowed for standing in standings) == limit


def test_the_api_asks_the_counters_aside_of_its_loop(
    redis_url: str, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the API of a process with an event loop
    asked_in: list[str] = []
    take = RateCounters.take

    def noted(counters: RateCounters, *window: Any) -> int:
        asked_in.append(threading.current_thread().name)
        return take(counters, *window)

    monkeypatch.setattr(RateCounters, "take", noted)
    store = Store.open(redis_url, greenlets=loop.greenlets)
    runtime = runtime_of(create_app(Settings(redis_url=redis_url), store))
    # when a request of the loop is counted, then another thread waits for the counter
    assert loop.run(limits.count, runtime, None, "192.0.2.1").allowed
    assert len(asked_in) == 1
    assert asked_in != ["loop"]
    store.close()


def test_a_new_window_begins_anew(counters: RateCounters) -> None:
    clock = [60.0]
    rates = Rates(counters, now=lambda: clock[0])
    assert [rates.hit("k", 1, 60_000).allowed for _ in range(2)] == [True, False]
    standing = rates.hit("k", 1, 60_000)
    assert (standing.reset_s, standing.retry_after_s) == (120, 60.0)
    clock[0] = 119.999
    assert not rates.hit("k", 1, 60_000).allowed
    clock[0] = 120.0
    assert rates.hit("k", 1, 60_000).allowed


def test_counters_leave_no_keys_behind(counters: RateCounters) -> None:
    ends = int(time.time() * 1000) - 1_001
    counters.take("k", 1, ends)
    assert counters.take("k", 1, ends) == 1


def test_without_the_store_limits_hold_in_memory_and_cost_little() -> None:
    counters = RateCounters.open(f"redis://127.0.0.1:{free_port()}/0")
    rates = Rates(counters, now=lambda: NOW)
    began = time.monotonic()
    assert sum(rates.hit("k", 100, 60_000).allowed for _ in range(300)) == 100
    assert time.monotonic() - began < 2
    counters.close()


def test_a_store_that_comes_back_is_used_again() -> None:
    server = ValkeyServer().start()
    try:
        counters = RateCounters.open(server.url())
        clock = [NOW]
        rates = Rates(counters, now=lambda: clock[0])
        assert rates.hit("k", 10, 60_000).remaining == 9
        server.kill()
        assert rates.hit("k", 10, 60_000).remaining == 8
        server.start()
        rates._pause_until = 0.0
        server_side = RateCounters.open(server.url())
        assert rates.hit("k", 10, 60_000).allowed
        key = f"k:60000:{int(NOW * 1000) // 60_000}"
        assert server_side.take(key, 0, int(NOW * 1000) + 60_000) == 1
        server_side.close()
        counters.close()
    finally:
        server.close()


def test_ended_windows_are_dropped(counters: RateCounters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mech_queue.services.rates.MANY_WINDOWS", 50)
    clock = [NOW]
    rates = Rates(counters, now=lambda: clock[0])
    for number in range(200):
        clock[0] += 61
        assert rates.hit(f"k{number}", 1, 60_000).allowed
    assert len(rates._windows) <= 50
