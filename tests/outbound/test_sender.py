"""The sender against receivers that misbehave in every known way."""

import gzip
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mech_queue.model.address import AddressPolicy
from mech_queue.model.delivery import EXCERPT_BYTES, ErrorCode, Outcome
from mech_queue.outbound import Sender
from tests.outbound.hostile import Behaviour, Hostile, floods, read_request, repeats, says, silent
from tests.support import Answer, Receiver, wait_until

LOOPBACK = AddressPolicy(["127.0.0.0/8", "::1/128"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = b'{"status": "completed"}'


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender(LOOPBACK, connect_s=0.3, total_s=0.5)
    yield made
    made.close()


def post(sender: Sender, url: str, headers: dict[str, str] | None = None) -> Outcome:
    return sender.send("POST", url, {"Content-Type": "application/json", **(headers or {})}, BODY)


def meet(sender: Sender, behave: Behaviour, **options: Any) -> Outcome:
    with Hostile(behave, **options) as receiver:
        started = time.monotonic()
        outcome = post(sender, receiver.url())
        assert time.monotonic() - started < sender.total_s + 0.5
        return outcome


def test_a_success_sends_exactly_these_bytes(sender: Sender, receiver: Receiver) -> None:
    outcome = post(sender, receiver.url("/hook?token=1"), {"X-Job-Id": "j"})
    (request,) = receiver.requests
    assert (outcome.success, outcome.status, outcome.excerpt) == (True, 200, b"ok")
    assert (request.method, request.path, request.body) == ("POST", "/hook?token=1", BODY)
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert set(request.headers) == {
        "host", "accept-encoding", "content-length", "content-type", "user-agent", "x-job-id",
    }  # fmt: skip


def test_put_works_too(sender: Sender, receiver: Receiver) -> None:
    assert sender.send("PUT", receiver.url("/"), {}, b"{}").success
    assert receiver.requests[0].method == "PUT"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_succeeds(sender: Sender, receiver: Receiver, status: int) -> None:
    receiver.default = Answer(status, body=b"")
    assert post(sender, receiver.url()).success


@pytest.mark.parametrize("status", [304, 400, 401, 404, 409, 429, 500, 503])
def test_other_answers_fail_and_say_so(sender: Sender, receiver: Receiver, status: int) -> None:
    receiver.default = Answer(status, {"Retry-After": "7"}, body=b"" if status == 304 else b"no")
    outcome = post(sender, receiver.url())
    assert (outcome.success, outcome.status, outcome.retry_after_ms) == (False, status, 7000)
    assert outcome.error is not None and str(status) in outcome.error
    assert outcome.permanent is False


def test_410_is_permanent(sender: Sender, receiver: Receiver) -> None:
    receiver.default = Answer(410)
    assert post(sender, receiver.url()).permanent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(sender: Sender, receiver: Receiver, status: int) -> None:
    with Receiver() as elsewhere:
        receiver.default = Answer(status, {"Location": elsewhere.url("/x")})
        assert post(sender, receiver.url()).error_code is ErrorCode.REDIRECT
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    "behave",
    [
        silent,
        repeats(b"", b"H"),
        repeats(b"HTTP/1.1 200 OK\r\n", b"X-Drip: 1\r\n", 0.1),
        repeats(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"1"),
        repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        repeats(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"),
        repeats(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        repeats(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
    ids="silent drip-status drip-headers drip-one-header endless-100 drip-body drip-chunks drip-close".split(),
)
def test_a_drip_ends_at_the_total_deadline(sender: Sender, behave: Behaviour) -> None:
    outcome = meet(sender, behave)
    assert (outcome.success, outcome.error_code) == (False, ErrorCode.TIMEOUT)
    assert 400 <= outcome.duration_ms <= 1000


@pytest.mark.parametrize("status", [b"100", b"102", b"199"])
def test_endless_information_at_full_speed_ends_too(sender: Sender, status: bytes) -> None:
    assert meet(sender, repeats(b"", b"HTTP/1.1 %s x\r\n\r\n" % status * 200, 0)).error_code is ErrorCode.TIMEOUT


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", ErrorCode.CLOSED),
        (b"garbage\r\n\r\n", ErrorCode.PROTOCOL),
        (b"HTTP/1.1 2OO OK\r\n\r\n", ErrorCode.PROTOCOL),
        (b"HTTP/1.1 99999 OK\r\n\r\n", ErrorCode.PROTOCOL),
        (b"HTTP/1.1 -1 OK\r\n\r\n", ErrorCode.PROTOCOL),
        (b"\x00\xff" * 1000, ErrorCode.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", ErrorCode.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", ErrorCode.PROTOCOL),
        (b"H" * 70_000, ErrorCode.PROTOCOL),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ErrorCode.PROTOCOL),
    ],
)
def test_nonsense_is_a_recorded_failure(sender: Sender, answer: bytes, code: ErrorCode) -> None:
    outcome = meet(sender, says(answer))
    assert (outcome.success, outcome.error_code) == (False, code)
    assert outcome.error


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", b"short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlonger than it says", b"lo"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"ok"),
        (b"HTTP/1.1 200 \xff\xfe\r\nX-\xe9: \xe9\xff\r\nContent-Length: 2\r\n\r\n\xff\xfe", b"\xff\xfe"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\nContent-Length: 2\r\n\r\nok", None),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=none\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=.com\r\nSet-Cookie: \x01\r\n\r\nx", b"x"),
    ],
)
def test_a_2xx_stays_a_success_whatever_its_body(sender: Sender, answer: bytes, excerpt: bytes | None) -> None:
    outcome = meet(sender, says(answer))
    assert (outcome.success, outcome.status) == (True, 200)
    if excerpt is not None:
        assert outcome.excerpt == excerpt


def test_a_gzip_bomb_is_not_inflated(sender: Sender) -> None:
    bomb = gzip.compress(b"\0" * 30_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    outcome = meet(sender, says(head + bomb))
    assert outcome.success and outcome.truncated
    assert outcome.excerpt == bomb[:EXCERPT_BYTES]


def test_an_endless_body_costs_no_memory(sender: Sender) -> None:
    meet(sender, floods(b"HTTP/1.1 200 OK\r\n\r\n", 1_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n"):
        outcome = meet(sender, floods(head, 1_000_000_000))
        assert outcome.truncated and len(outcome.excerpt) == EXCERPT_BYTES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5_000


def test_an_exact_excerpt_is_not_truncated(sender: Sender, receiver: Receiver) -> None:
    receiver.default = Answer(200, body=b"x" * EXCERPT_BYTES)
    outcome = post(sender, receiver.url())
    assert len(outcome.excerpt) == EXCERPT_BYTES and not outcome.truncated


def test_nobody_listens(sender: Sender) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = post(sender, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert outcome.error_code is ErrorCode.CONNECT


def test_connections_are_kept(sender: Sender) -> None:
    def two_answers(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(OK)
        # a whole request each time: a head and a body may arrive in two parts, and an answer too many closes
        while read_request(connection):
            connection.sendall(OK)

    with Hostile(two_answers) as receiver:
        assert all(post(sender, receiver.url()).success for _ in range(5))
        assert receiver.connections == 1
        sender.close()


def test_a_connection_closed_while_idle_is_replaced_without_a_failed_attempt(sender: Sender) -> None:
    def one_answer_then_hang_up_on_the_second(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(OK)
        connection.recv(1)  # the second request arrives, and gets no answer

    with Hostile(one_answer_then_hang_up_on_the_second) as receiver:
        assert post(sender, receiver.url()).success
        assert post(sender, receiver.url()).success
        assert receiver.connections == 2


def test_the_environment_sends_nothing_elsewhere(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url("/"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", os.fspath(tmp_path / ".netrc"))
        assert post(sender, receiver.url(), {"Authorization": "Bearer mine"}).success
        assert proxy.requests == []
    assert receiver.requests[0].headers["authorization"] == "Bearer mine"


def test_cookies_do_not_travel_from_one_delivery_to_the_next(sender: Sender, receiver: Receiver) -> None:
    receiver.default = Answer(200, {"Set-Cookie": "session=1; Path=/"})
    post(sender, receiver.url())
    post(sender, receiver.url())
    assert "cookie" not in receiver.requests[1].headers


def test_stored_nonsense_is_an_outcome_too(sender: Sender, receiver: Receiver) -> None:
    assert post(sender, "gopher://x").error_code is ErrorCode.INVALID
    assert post(sender, receiver.url(), {"X-A": "日本"}).error_code is ErrorCode.INVALID
    assert post(sender, receiver.url(), {"X-A": "a\r\nb: c"}).error_code is ErrorCode.INVALID
    assert receiver.requests == []


def test_many_threads_share_a_sender(sender: Sender, receiver: Receiver) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: post(sender, receiver.url(f"/{n}")), range(64)))
    assert all(outcome.success for outcome in outcomes)
    assert {request.path for request in receiver.requests} == {f"/{n}" for n in range(64)}


def test_a_late_receiver_does_not_disturb_the_next_attempt_on_its_connection(sender: Sender) -> None:
    def answer_slowly(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(OK)
        while read_request(connection) and not closing.wait(0.2):
            connection.sendall(OK)

    with Hostile(answer_slowly) as receiver:
        for _ in range(4):  # 0.8 s in all: longer than one deadline, over one connection
            assert post(sender, receiver.url()).success
        assert receiver.connections == 1
        sender.close()


def test_threads_of_lookups_and_sockets_do_not_pile_up(sender: Sender) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        meet(sender, says(b"garbage\r\n\r\n"))
        meet(sender, says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"))
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)
