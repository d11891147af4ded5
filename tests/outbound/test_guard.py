"""The address guard at connect: rebinding, mixed answers, hanging resolvers, TLS by name."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from mech_queue.model.address import AddressPolicy
from mech_queue.model.delivery import ErrorCode, Outcome
from mech_queue.outbound import Sender
from tests.outbound.hostile import Hostile, repeats, says, silent

LOOPBACK = AddressPolicy(["127.0.0.0/8", "::1/128"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Names:
    """A resolver of the test: each lookup takes the next list of addresses, the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.lookups: list[str] = []

    def __call__(self, host: str, port: int) -> list[Any]:
        self.lookups.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in answer
        ]


def send(resolver: Any, url: str, policy: AddressPolicy = LOOPBACK, **options: Any) -> Outcome:
    sender = Sender(policy, resolver=resolver, connect_s=0.3, total_s=0.5, **options)
    try:
        return sender.send("POST", url, {}, b"{}")
    finally:
        sender.close()


def test_a_name_is_resolved_and_the_host_header_stays_the_name() -> None:
    with Hostile(says(OK)) as receiver:
        assert send(Names(["127.0.0.1"]), receiver.url(host="hooks.example")).success
        assert b"Host: hooks.example:%d" % receiver.port in receiver.requests[0]


def test_a_name_that_leads_to_a_private_address_gets_no_byte() -> None:
    with Hostile(says(OK)) as receiver:
        outcome = send(Names(["127.0.0.1"]), receiver.url(host="hooks.example"), AddressPolicy())
        assert outcome.error_code is ErrorCode.BLOCKED
        assert receiver.connections == 0
    assert outcome.error is not None and "127.0.0.1" not in outcome.error


def test_one_forbidden_answer_among_public_ones_is_enough() -> None:
    with Hostile(says(OK)) as receiver:
        url = receiver.url(host="hooks.example")
        for answers in (["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1", "::ffff:7f00:1"]):
            assert send(Names(answers), url, AddressPolicy()).error_code is ErrorCode.BLOCKED
        assert receiver.connections == 0


@pytest.mark.parametrize("literal", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"])
def test_literals_are_judged_at_connect_too(literal: str) -> None:
    outcome = send(Names(["8.8.8.8"]), f"http://{literal}:8080/", AddressPolicy())
    assert outcome.error_code is ErrorCode.BLOCKED


def test_a_name_that_changes_between_lookups_never_reaches_loopback() -> None:
    # Given a name that is public when it is looked up first, and loopback afterwards
    names = Names(["64:ff9b::808:808"], ["127.0.0.1"])
    policy = AddressPolicy()
    with Hostile(says(OK)) as receiver:
        sender = Sender(policy, resolver=names, connect_s=0.2, total_s=0.3)
        # When it is judged as public once, and then looked up again for the connection
        names("hooks.example", 1)
        outcome = sender.send("POST", receiver.url(host="hooks.example"), {}, b"{}")
        sender.close()
        # Then the second answer is judged as well
        assert outcome.error_code is ErrorCode.BLOCKED
        assert receiver.connections == 0


def test_one_attempt_looks_a_name_up_once() -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    with Hostile(says(OK)) as receiver:
        assert send(names, receiver.url(host="hooks.example")).success
    assert names.lookups == ["hooks.example"]


def test_the_next_address_is_tried_when_one_is_dead() -> None:
    with Hostile(says(OK)) as receiver:
        assert send(Names(["127.9.9.9", "127.0.0.1"]), receiver.url(host="hooks.example")).success


def test_a_name_that_does_not_exist() -> None:
    def unknown(host: str, port: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert send(unknown, "http://nowhere.example/").error_code is ErrorCode.DNS
    assert send(lambda *_: [], "http://nowhere.example/").error_code is ErrorCode.DNS


def test_a_hanging_resolver_is_inside_the_deadline() -> None:
    release = threading.Event()

    def hangs(host: str, port: int) -> list[Any]:
        release.wait(5)
        return []

    started = time.monotonic()
    outcome = send(hangs, "http://slow.example/")
    assert outcome.error_code is ErrorCode.TIMEOUT
    assert time.monotonic() - started < 1
    release.set()


def test_a_full_backlog_is_a_timeout_of_the_connection() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        outcome = send(Names(["127.0.0.1"]), f"http://hooks.example:{listener.getsockname()[1]}/")
        for filler in fillers:
            filler.close()
    assert outcome.error_code is ErrorCode.TIMEOUT
    assert outcome.duration_ms < 450


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    yield str(path)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_tls_checks_the_name_not_the_address(authority: trustme.CA, ca_file: str) -> None:
    names = Names(["127.0.0.1"])
    with Hostile(says(OK), server_context(authority, "hooks.example")) as receiver:
        good = send(names, receiver.url(scheme="https", host="hooks.example"), ca_file=ca_file)
        other = send(names, receiver.url(scheme="https", host="other.example"), ca_file=ca_file)
        literal = send(names, receiver.url(scheme="https"), ca_file=ca_file)
    assert good.success and good.excerpt == b"ok"
    assert other.error_code is literal.error_code is ErrorCode.TLS
    assert other.error is not None and "certificate" in other.error


def test_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    with Hostile(says(OK), server_context(authority, "hooks.example")) as receiver:
        outcome = send(Names(["127.0.0.1"]), receiver.url(scheme="https", host="hooks.example"))
        assert receiver.requests == []
    assert outcome.error_code is ErrorCode.TLS


def test_plain_http_behind_an_https_url_is_a_tls_error() -> None:
    with Hostile(says(OK), read=False) as receiver:
        outcome = send(Names(["127.0.0.1"]), receiver.url(scheme="https", host="hooks.example"))
    assert outcome.error_code in (ErrorCode.TLS, ErrorCode.CLOSED)


def test_a_handshake_that_hangs_or_drips_is_inside_the_deadline() -> None:
    record = b"\x16\x03\x03\x40\x00"  # a TLS record whose 16 KiB arrive a byte at a time
    for behave in (silent, repeats(record, b"\x02")):
        with Hostile(behave, read=False) as receiver:
            outcome = send(Names(["127.0.0.1"]), receiver.url(scheme="https", host="hooks.example"))
        assert outcome.error_code is ErrorCode.TIMEOUT
        assert 250 <= outcome.duration_ms <= 1000


def test_a_drip_over_tls_ends_at_the_deadline(authority: trustme.CA, ca_file: str) -> None:
    drip = repeats(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"x")
    with Hostile(drip, server_context(authority, "hooks.example")) as receiver:
        outcome = send(Names(["127.0.0.1"]), receiver.url(scheme="https", host="hooks.example"), ca_file=ca_file)
    assert outcome.error_code is ErrorCode.TIMEOUT
    assert 400 <= outcome.duration_ms <= 1000
