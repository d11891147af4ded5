"""The connections of the scripts: what happens when the server goes away and comes back."""

import pytest

from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import JobSpec
from mech_queue.services import jobs
from mech_queue.store import Store
from tests.support.valkey import ValkeyServer

APPLICATION = "app-connections0"


def test_connections_that_the_server_closed_are_replaced_unseen(store: Store) -> None:
    # given a store in use
    first = jobs.submit(store, APPLICATION, JobSpec("q"))
    # when the server closes every connection
    store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    # then the next calls work, also those that must not be repeated
    started = jobs.start(store, APPLICATION, first.job_id)
    assert started.attempt == 1


def test_a_store_that_is_away_is_a_refusal_in_our_words() -> None:
    # given a server that stops
    server = ValkeyServer().start()
    store = Store.open(server.fresh_database())
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
