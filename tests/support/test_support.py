"""The helpers themselves: a test that leaves loopback must fail, a receiver must record."""

import socket

import pytest
import requests

from tests.support import Answer, Receiver, network, wait_until
from tests.support.valkey import ValkeyServer


def test_a_connection_to_the_outside_is_refused_and_recorded() -> None:
    with socket.socket() as outside, pytest.raises(network.OutsideConnection):
        outside.connect(("192.0.2.1", 80))
    assert network.refused == ["socket.connect ('192.0.2.1', 80)"]
    network.refused.clear()


def test_names_are_not_resolved() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.com", 443)


def test_two_databases_are_two_worlds(valkey_server: ValkeyServer) -> None:
    first, second = valkey_server.fresh_database(), valkey_server.fresh_database()
    assert first != second
    with valkey_server.client(int(first.rpartition("/")[2])) as client:
        client.set("a", 1)
    with valkey_server.client(int(second.rpartition("/")[2])) as client:
        assert client.dbsize() == 0


def test_a_receiver_answers_by_script_and_records(receiver: Receiver) -> None:
    url = receiver.script("/hook", [500, Answer(429, {"Retry-After": "7"}), Answer(cut=True)])
    with requests.Session() as session:
        assert session.post(url, json={"n": 1}).status_code == 500
        assert session.post(url, json={"n": 2}).headers["Retry-After"] == "7"
        with pytest.raises(requests.ConnectionError):
            session.post(url, json={"n": 3})
        assert session.post(url, json={"n": 4}).status_code == 200
    assert [one.json()["n"] for one in receiver.wait_for(4, "/hook")] == [1, 2, 3, 4]
    assert receiver.requests[0].headers["content-type"] == "application/json"


def test_wait_until_gives_up_with_the_last_answer() -> None:
    with pytest.raises(AssertionError, match=r"last answer: 0"):
        wait_until(lambda: 0, deadline_s=0.02)
