"""The connections of the scripts: what happens when the server goes away and comes back, and under many threads."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from mech_queue.store import Store
from mech_queue.store.connection import connect
from mech_queue.store.shared_line import SharedLine
from tests.support import wait_until
from tests.support.valkey import ValkeyServer

APPLICATION = "app-connections0"


@pytest.fixture(params=[False, True], ids=["own-lines", "shared-line"])
def store(request: pytest.FixtureRequest, valkey_server: ValkeyServer) -> Iterator[Store]:
    found = Store.open(valkey_server.fresh_database(), shared_line=request.param)
    found.greet(initialise=True)
    yield found
    found.close()


def test_connections_that_the_server_closed_are_replaced_unseen(store: Store) -> None:
    # given a store in use
    first = jobs.submit(store, APPLICATION, JobSpec("q"))
    # when the server closes every connection
    store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    # then the next calls work, also those that must not be repeated
    started = jobs.start(store, APPLICATION, first.job_id)
    assert started.attempt == 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_store_that_is_away_is_a_refusal_in_our_words(shared: bool) -> None:
    # given a server that stops
    server = ValkeyServer().start()
    store = Store.open(server.fresh_database(), shared_line=shared)
    store.greet(initialise=True)
    job = jobs.submit(store, APPLICATION, JobSpec("q"))
    server.close()
    # then every call says so, and names neither host nor port
    for call in (lambda: jobs.get(store, APPLICATION, job.job_id), lambda: jobs.start(store, APPLICATION, job.job_id)):
        with pytest.raises(Refusal) as refused:
            call()
        assert refused.value.code is Code.STORE_UNAVAILABLE
        assert "127.0.0.1" not in refused.value.message
    store.close()


def test_each_of_many_threads_gets_its_own_answer(store: Store) -> None:
    # given jobs with data of very different sizes
    sizes = [1, 70_000, 300, 5_000]
    submitted = [
        (jobs.submit(store, APPLICATION, JobSpec("q", data=b'"%s"' % (b"x" * size))).job_id, size) for size in sizes
    ]

    # when many threads ask at once, and some of them are refused
    def ask(number: int) -> bool:
        job_id, size = submitted[number % len(submitted)]
        if number % 7 == 0:
            with pytest.raises(Refusal) as refused:
                jobs.start(store, APPLICATION, job_id[:-3] + "000")
            return refused.value.code is Code.NOT_FOUND
        record = jobs.get(store, APPLICATION, job_id)
        return record.id == job_id and len(record.data or b"") == size + 2

    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change between any two steps
    try:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(800)))
    finally:
        sys.setswitchinterval(often)


def test_many_threads_survive_connections_that_are_cut(store: Store) -> None:
    # given threads that read all the time
    job = jobs.submit(store, APPLICATION, JobSpec("q"))
    ended = threading.Event()

    def read() -> int:
        reads = 0
        while not (ended.is_set() and reads):
            try:
                assert jobs.get(store, APPLICATION, job.job_id).id == job.job_id
                reads += 1
            except Refusal as refused:  # cut twice in a row
                assert refused.code is Code.STORE_UNAVAILABLE
        return reads

    # when every connection is cut again and again
    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        try:
            for _ in range(30):
                store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        finally:
            ended.set()
        # then nobody hangs, what is answered is right, and everybody can go on
        assert all(reader.result(10) for reader in readers)


class SlowRelease:
    """The lead of a shared line, given back only after somebody else has come and found it taken."""

    def __init__(self, line: SharedLine, other: threading.Thread) -> None:
        self._line, self._other, self._lock = line, other, threading.Lock()

    def acquire(self, blocking: bool) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        if self._other.ident is None:
            self._other.start()
            wait_until(lambda: self._line._waiting, 5, "the other waits")
        self._lock.release()


def test_who_comes_while_the_lead_is_given_back_is_served(redis_url: str) -> None:
    # given a line whose leader finds nobody waiting
    client = connect(redis_url)
    line, heard = SharedLine(client), []
    other = threading.Thread(target=lambda: heard.append(line.call("PING")), daemon=True)
    line._led = SlowRelease(line, other)  # type: ignore[assignment]
    # when another call comes at the last moment
    assert line.call("PING") == b"PONG"
    # then it does not sleep for ever
    other.join(5)
    assert heard == [b"PONG"]
    line.close()
    client.close()
