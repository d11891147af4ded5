"""The client against a server in trouble: what is repeated, what is not, and what the caller is told."""

import json
import subprocess
import sys
import time
import traceback

import pytest
import requests

from mech_queue._http.transport import Transport, encode
from mech_queue.client import Client, Code, Refusal, Unreachable
from tests.support import Answer, Receiver
from tests.support.valkey import free_port

SUBMITTED = Answer(201, body=b'{"success": true, "jobId": "j-1", "message": "ok"}')
CUT = Answer(cut=True)


def refused(status: int, code: str, **headers: str) -> Answer:
    body = {"success": False, "error": "No.", "code": code, "details": {"queue": ["is wrong"]}}
    return Answer(status, {"X-Request-Id": "r-1", **headers}, json.dumps(body).encode())


@pytest.fixture
def client(receiver: Receiver):
    with Client(receiver.url("/").rstrip("/"), "sk_test") as made:
        yield made


def test_importing_it_loads_only_requests_and_the_standard_library():
    script = (
        "import sys, requests; before = set(sys.modules)\n"
        "import mech_queue.client, mech_queue.worker, mech_queue.webhooks\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["mech_queue"]


def test_an_address_without_scheme_is_refused_at_once():
    with pytest.raises(ValueError, match="must start with http:// or https://, not 'localhost:3003'"):
        Client("localhost:3003", "sk_test")


def test_a_key_may_come_from_a_file_with_a_line_break(receiver):
    receiver.script("/api/jobs", [SUBMITTED])
    with Client(receiver.url("/"), "sk_test\n") as client:
        client.submit("q", 1)
    (request,) = receiver.of("/api/jobs")
    assert request.headers["x-api-key"] == "sk_test"


def test_a_submit_whose_answer_was_lost_is_repeated_with_the_same_idempotency_key(receiver, client):
    # given a server that cuts the first connection after it has read the request
    receiver.script("/api/jobs", [CUT, SUBMITTED])
    # when a job is submitted
    handle = client.submit("email", {"to": "a"}, metadata={"n": 1}, priority=5)
    # then the same request came twice
    first, second = receiver.of("/api/jobs")
    assert first.body == second.body
    assert json.loads(first.body) == {
        "queue": "email",
        "data": {"to": "a"},
        "metadata": {"n": 1},
        "options": {"priority": 5},
    }
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.headers["x-api-key"] == "sk_test"
    assert (handle.id, handle.deduplicated, handle.replayed) == ("j-1", False, False)


def test_two_submits_have_two_keys_and_a_given_key_is_kept(receiver, client):
    receiver.script("/api/jobs", [SUBMITTED] * 3)
    for key in (None, None, "order-1"):
        client.submit("email", None, idempotency_key=key)
    keys = [one.headers["idempotency-key"] for one in receiver.of("/api/jobs")]
    assert len(set(keys)) == 3
    assert keys[2] == "order-1"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.jobs.submit_many([{"queue": "q", "data": 1}]),
        lambda client: client.jobs.act("j", "cancel"),
        lambda client: client.work.start("j"),
        lambda client: client.work.fail("j", "no token, so a second one would count twice"),
        lambda client: client.subscriptions.create(name="n"),
    ],
)
def test_what_could_happen_twice_is_not_repeated(receiver, client, call):
    receiver.default = CUT
    with pytest.raises(Unreachable):
        call(client)
    assert len(receiver.requests) == 1


def test_reads_and_claims_are_repeated_and_a_claim_keeps_its_nonce(receiver, client):
    receiver.script("/api/jobs/j", [CUT, Answer(503), refused(503, "STORE_UNAVAILABLE"), Answer(200, body=b"{}")])
    with pytest.raises(KeyError):  # the empty object has no job in it
        client.jobs.get("j")
    assert len(receiver.of("/api/jobs/j")) == 4
    receiver.script("/api/queues/q/claim", [CUT, Answer(200, body=b'{"jobs": []}')])
    assert client.work.claim("q") == []
    first, second = receiver.of("/api/queues/q/claim")
    assert first.json()["nonce"] == second.json()["nonce"]


def test_a_rate_limit_is_waited_out_as_long_as_the_service_says(receiver, client):
    receiver.default = Answer(200, body=b"{}")
    begun = time.monotonic()
    receiver.script("/api/jobs/k/cancel", [refused(429, "RATE_LIMITED", **{"Retry-After": "1"})])
    client.jobs.act("k", "cancel")
    assert time.monotonic() - begun >= 1
    assert len(receiver.of("/api/jobs/k/cancel")) == 2


def test_a_full_queue_is_the_callers_to_decide(receiver, client):
    receiver.script("/api/jobs", [refused(429, "QUEUE_FULL", **{"Retry-After": "7"})])
    with pytest.raises(Refusal) as caught:
        client.submit("email", 1)
    assert caught.value.code is Code.QUEUE_FULL
    assert caught.value.retry_after == 7
    assert len(receiver.requests) == 1


def test_a_refusal_carries_code_sentence_details_and_request_id(receiver, client):
    receiver.default = refused(422, "INVALID")
    with pytest.raises(Refusal) as caught:
        client.submit("email", 1)
    refusal = caught.value
    assert (refusal.code, refusal.message, refusal.details) == (Code.INVALID, "No.", {"queue": ["is wrong"]})
    assert refusal.__notes__ == ["request id r-1"]


def test_a_code_that_is_not_known_here_and_none_keep_the_services_words(receiver, client):
    receiver.script("/api/jobs/j", [refused(409, "OF_A_LATER_RELEASE")])
    receiver.script("/health", [Answer(503, body=b'{"status": "unhealthy", "error": "The store is away."}')])
    with pytest.raises(Refusal) as caught:
        client.jobs.get("j")
    assert (caught.value.code, caught.value.message) == (Code.INTERNAL, "No.")
    with pytest.raises(Refusal) as caught:
        client.health()
    assert (caught.value.code, caught.value.message) == (Code.STORE_UNAVAILABLE, "The store is away.")


def test_a_proxys_error_page_is_a_refusal_too(receiver, client):
    receiver.default = Answer(404, body=b"<html>not here</html>")
    with pytest.raises(Refusal, match=r"HTTP 404 without .*: is this the address of mech-queue\?"):
        client.jobs.get("j")


def test_nothing_is_asked_without_an_id(receiver, client):
    with pytest.raises(ValueError, match="must not be empty"):
        client.jobs.get("")
    assert receiver.requests == []


def test_a_redirect_is_not_followed_with_the_key(receiver, client):
    receiver.default = Answer(302, {"Location": receiver.url("/elsewhere")})
    with pytest.raises(Refusal, match="HTTP 302"):
        client.jobs.get("j")
    assert receiver.of("/elsewhere") == []


def test_a_service_that_is_not_there_ends_in_one_sentence():
    with Client(f"http://127.0.0.1:{free_port()}", "sk_test", retries=1) as client:
        with pytest.raises(Unreachable) as caught:
            client.jobs.act("j", "cancel")
    # then whoever sees it uncaught reads this and nothing else, and what requests said is there to be looked at
    printed = "".join(traceback.format_exception(caught.value))
    assert printed.count("Traceback") == 1
    assert printed.endswith(f"Unreachable: no answer from {client.url}: Connection refused\n")
    assert isinstance(caught.value.__context__, requests.exceptions.ConnectionError)


def test_a_silent_service_ends_in_time(receiver):
    receiver.default = Answer(delay_s=5)
    with Client(receiver.url("/"), "sk_test", timeout_s=0.2, retries=0) as client:
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            client.jobs.get("j")
        assert time.monotonic() - begun < 2


def test_a_list_goes_on_to_its_last_page(receiver, client):
    def page(ids: list[str], cursor: str | None) -> Answer:
        jobs = [{"id": one, "queue": "q", "status": "waiting"} for one in ids]
        return Answer(200, body=json.dumps({"jobs": jobs, "nextCursor": cursor}).encode())

    receiver.script("/api/jobs", [page(["a", "b"], "c1"), page([], "c2"), page(["c"], None)])
    found = client.jobs.search(queue="q", status=["waiting", "active"], metadata={"n": 3, "s": "3"}, page_size=2)
    assert [job.id for job in found] == ["a", "b", "c"]
    paths = [one.path for one in receiver.of("/api/jobs")]
    assert paths[0] == "/api/jobs?queue=q&status=waiting%2Cactive&limit=2&metadata.n=3&metadata.s=%223%22"
    assert [path.rpartition("cursor=")[2] for path in paths[1:]] == ["c1", "c2"]


def test_waiting_gives_up_in_time(receiver, client):
    job = {"id": "j", "queue": "q", "status": "active"}
    receiver.default = Answer(200, body=json.dumps({"job": job}).encode())
    with pytest.raises(TimeoutError, match="active"):
        client.jobs.handle("j").wait(timeout_s=0.3)
    assert len(receiver.requests) <= 3


@pytest.mark.parametrize("body", [{"n": float("nan")}, [float("inf")]])
def test_what_is_no_json_is_refused_before_it_is_sent(receiver, client, body):
    with pytest.raises(ValueError):
        client.submit("email", body)
    assert receiver.requests == []


def test_numbers_and_text_are_sent_as_they_are():
    assert encode({"b": 10**30, "a": "ü🙂"}) == '{"b":1000000000000000000000000000000,"a":"ü🙂"}'.encode()


def test_after_a_fork_the_child_opens_its_own_connections():
    transport = Transport("http://127.0.0.1:1", "k")
    first = transport._open()
    transport._owner = -1  # what the child of a fork sees: another process made it
    assert transport._open() is not first
    transport.close()


def test_a_wrong_address_that_answers_something_is_told(receiver, client):
    with pytest.raises(Refusal, match="is this the address of mech-queue"):
        client.jobs.get("j")
