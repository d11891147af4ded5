"""Webhooks through a proxy that the operator named: it resolves and judges names; literals are still judged here."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from mech_queue.model.address import AddressPolicy
from mech_queue.model.delivery import ErrorCode, Outcome
from mech_queue.outbound import Sender
from tests.outbound.hostile import Hostile, says

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Proxy(Hostile):
    """Tunnels every CONNECT to ``target`` on loopback, answers every other request itself; refuses without target."""

    def __init__(self, target: int | None = None) -> None:
        self.heads: list[bytes] = []
        self._target = target
        super().__init__(self._serve_one, read=False)

    def __enter__(self) -> "Proxy":
        return self

    def _serve_one(self, near: socket.socket, _: threading.Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(65536)
        self.heads.append(head)
        if not head.startswith(b"CONNECT "):
            near.sendall(OK)
        elif self._target is None:
            near.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        else:
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(far, near))
                back.start()
                _pump(near, far)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def nobody(host: str, port: int) -> list[Any]:
    raise AssertionError(f"{host} was resolved here, not by the proxy")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Any) -> Iterator[str]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    yield str(tmp_path / "ca.pem")


def send(proxy: Proxy, url: str, **options: Any) -> Outcome:
    """With an empty policy: the proxy's own address is private, and may be."""
    sender = Sender(
        AddressPolicy(),
        resolver=nobody,
        connect_s=1,
        total_s=2,
        proxy=f"http://me:pw@127.0.0.1:{proxy.port}",
        **options,
    )
    try:
        return sender.send("POST", url, {"Content-Type": "application/json"}, b"{}")
    finally:
        sender.close()


def test_plain_http_goes_through_the_proxy() -> None:
    with Proxy() as proxy:
        assert send(proxy, "http://hooks.example/hook?token=1").success
        (head,) = proxy.heads
    assert head.startswith(b"POST http://hooks.example/hook?token=1 HTTP/1.1\r\n")
    assert b"proxy-authorization: basic " in head.lower()


def test_https_is_tunnelled_and_checks_the_name(authority: trustme.CA, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    with Hostile(says(OK), context) as receiver, Proxy(receiver.port) as proxy:
        good = send(proxy, "https://hooks.example/x", ca_file=ca_file)
        other = send(proxy, "https://other.example/x", ca_file=ca_file)
        assert [head.split(b" ")[1] for head in proxy.heads] == [b"hooks.example:443", b"other.example:443"]
        assert b"POST /x HTTP/1.1" in receiver.requests[0]
        assert b"proxy-authorization" not in receiver.requests[0].lower()
    assert good.success and other.error_code is ErrorCode.TLS


def test_a_refusing_or_absent_proxy_is_a_failed_connection() -> None:
    with Proxy() as proxy:
        refused = send(proxy, "https://hooks.example/")
    absent = send(proxy, "http://hooks.example/")
    assert refused.error_code is absent.error_code is ErrorCode.CONNECT
    assert "pw" not in f"{refused.error}{absent.error}"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "169.254.169.254", "[::1]:8080"])
def test_literal_addresses_are_refused_before_the_proxy_is_asked(host: str) -> None:
    with Proxy() as proxy:
        assert send(proxy, f"http://{host}/").error_code is ErrorCode.BLOCKED
        assert proxy.heads == []


def test_the_proxys_own_address_is_open_for_the_proxy_only() -> None:
    with Proxy() as proxy:
        assert send(proxy, f"http://127.0.0.1:{proxy.port}/").error_code is ErrorCode.BLOCKED
        assert proxy.heads == []
