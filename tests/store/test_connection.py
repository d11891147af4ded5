"""The connections of the scripts: what happens when the server goes away and comes back, and under many threads."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobRecord, JobSpec
from mech_queue.services import jobs
from mech_queue.store import Store
from mech_queue.store.address import open_nodes
from tests.support.loop import LoopThread
from tests.support.valkey import ValkeyServer

APPLICATION = "app-connections0"


@dataclass
class Door:
    """A store and the way to call it: from a thread, or in a request of an event loop."""

    store: Store
    call: Callable[..., Any]


WAYS = ["from threads", "in a loop"]


@pytest.fixture(params=WAYS)
def door(request: pytest.FixtureRequest, valkey_server: ValkeyServer, loop: LoopThread) -> Iterator[Door]:
    found = open_door(request.param, valkey_server.fresh_database(), loop)
    yield found
    loop.call(found.store.close)


def open_door(way: str, url: str, loop: LoopThread) -> Door:
    store = Store.open(url, greenlets=loop.greenlets)
    store.greet(initialise=True)
    return Door(store, loop.run if way == "in a loop" else lambda function, *args: function(*args))


def test_connections_that_the_server_closed_are_replaced_unseen(door: Door, valkey_server: ValkeyServer) -> None:
    # given a store in use
    first = door.call(jobs.submit, door.store, APPLICATION, JobSpec("q"))
    # when the server closes every connection
    with valkey_server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    # then the next calls work, also those that must not be repeated
    started = door.call(jobs.start, door.store, APPLICATION, first.job_id)
    assert started.attempt == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_is_away_is_a_refusal_in_our_words(
    way: str, loop: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    # given a server that stops
    server = ValkeyServer().start()
    door = open_door(way, server.fresh_database(), loop)
    job = door.call(jobs.submit, door.store, APPLICATION, JobSpec("q"))
    server.close()
    # then every call says so, and names neither host nor port
    for action in (jobs.get, jobs.start, jobs.get, jobs.start):
        with pytest.raises(Refusal) as refused:
            door.call(action, door.store, APPLICATION, job.job_id)
        assert refused.value.code is Code.STORE_UNAVAILABLE
        assert "127.0.0.1" not in refused.value.message
    # and the log says it, with the reason, and once
    assert len([line for line in caplog.messages if f"127.0.0.1:{server.port}" in line]) == 1, caplog.messages
    loop.call(door.store.close)


@pytest.mark.parametrize("rules", ["-zadd", "-fcall", "%R~*"])
def test_a_user_without_the_rights_is_a_refusal_and_a_line_in_the_log(
    rules: str, valkey_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    # given a store that works, and then a user who may do less
    url = valkey_server.fresh_database()
    whole = Store.open(url)
    whole.greet(initialise=True)
    jobs.submit(whole, APPLICATION, JobSpec("q"))
    with valkey_server.client() as client:
        client.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">secret", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "poor", *(["resetkeys", rules] if "~" in rules else [rules]))
    poor = Store.open(f"redis://poor:secret@{url.partition('@')[2]}")
    # when it is used
    with pytest.raises(Refusal) as refused:
        jobs.submit(poor, APPLICATION, JobSpec("q"))
    # then callers hear that the service cannot, and its operator why
    assert refused.value.code is Code.STORE_UNAVAILABLE
    assert "its user may not do" in caplog.text
    poor.close()
    whole.close()


def test_each_of_many_callers_gets_its_own_answer(door: Door) -> None:
    # given jobs with data of very different sizes
    store, sizes = door.store, [1, 70_000, 300, 5_000]
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
            assert all(pool.map(lambda number: door.call(ask, number), range(800)))
    finally:
        sys.setswitchinterval(often)


def test_many_callers_survive_connections_that_are_cut(door: Door, valkey_server: ValkeyServer) -> None:
    # given callers that read all the time
    store = door.store
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
    with ThreadPoolExecutor(8) as pool, valkey_server.client() as client:
        readers = [pool.submit(door.call, read) for _ in range(8)]
        try:
            for _ in range(30):
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        finally:
            ended.set()
        # then nobody hangs, what is answered is right, and everybody can go on
        assert all(reader.result(10) for reader in readers)


def test_requests_of_a_loop_share_one_connection(loop: LoopThread, valkey_server: ValkeyServer) -> None:
    # given a store of a loop with one job
    store = Store.open(valkey_server.fresh_database(), greenlets=loop.greenlets)
    loop.run(store.greet, True)
    job = loop.run(jobs.submit, store, APPLICATION, JobSpec("q"))
    with valkey_server.client() as client:
        clients = len(client.client_list())

    # when a hundred requests read it at once
    async def read_all() -> list[JobRecord]:
        reads = [loop.greenlets.run(jobs.get, store, APPLICATION, job.job_id) for _ in range(100)]
        assert not any(read.done() for read in reads), "they wait side by side"
        return await asyncio.gather(*reads)

    found = loop.wait_for(read_all())
    # then all have it, and no connection was added
    assert [one.id for one in found] == [job.job_id] * 100
    with valkey_server.client() as client:
        assert len(client.client_list()) == clients
    loop.call(store.close)


def test_large_commands_and_answers_pass_in_pieces(loop: LoopThread, valkey_server: ValkeyServer) -> None:
    # given jobs larger than what a socket takes at once
    store = Store.open(valkey_server.fresh_database(), greenlets=loop.greenlets)
    loop.run(store.greet, True)
    data = b'"%s"' % (b"x" * 900_000)

    async def submit_all() -> list[str]:
        submits = [loop.greenlets.run(jobs.submit, store, APPLICATION, JobSpec("q", data=data)) for _ in range(20)]
        return [done.job_id for done in await asyncio.gather(*submits)]

    # when many are sent and read at once
    ids = loop.wait_for(submit_all())

    async def read_all() -> list[JobRecord]:
        return await asyncio.gather(*(loop.greenlets.run(jobs.get, store, APPLICATION, one) for one in ids))

    # then they come back whole
    assert {one.data for one in loop.wait_for(read_all())} == {data}
    loop.call(store.close)


def test_a_store_that_hangs_fails_every_request_in_time_and_holds_up_no_other(
    loop: LoopThread, valkey_server: ValkeyServer
) -> None:
    # given a store that stands still
    url = valkey_server.fresh_database()
    store = Store(open_nodes(url, timeout_s=0.3), url, greenlets=loop.greenlets)
    loop.run(store.greet, True)
    job = loop.run(jobs.submit, store, APPLICATION, JobSpec("q"))
    os.kill(valkey_server.pid, signal.SIGSTOP)
    try:
        # when requests come
        async def read_all() -> list[Any]:
            reads = [loop.greenlets.run(jobs.start, store, APPLICATION, job.job_id) for _ in range(10)]
            assert await loop.greenlets.run(lambda: "answered") == "answered"
            return list(await asyncio.gather(*reads, return_exceptions=True))

        # then each is refused in our words, as one that has an own connection would be
        for refused in loop.wait_for(read_all()):
            assert isinstance(refused, Refusal)
            assert refused.code is Code.STORE_UNAVAILABLE
    finally:
        os.kill(valkey_server.pid, signal.SIGCONT)
    loop.call(store.close)


def test_an_address_of_something_else_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"^the store's address must start with redis://"):
        open_nodes("amqp://user:canary@rabbitmq")
