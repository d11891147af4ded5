"""A store behind TLS with a private certificate authority, as docs/HOSTED_SERVICES_CONFIGURATION.md says."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import trustme

from tests.support import Receiver, wait_until
from tests.support.service import ROOT, Service
from tests.support.valkey import USER, ValkeyServer
from workers import child


class TlsFront:
    """Ends TLS in front of a plain server, as a managed store does. The wheel's Valkey speaks none itself."""

    def __init__(self, authority: trustme.CA, target: int) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.handshakes, self.refused = 0, 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(plain,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with plain:
            try:
                near = self._context.wrap_socket(plain, server_side=True)
            except OSError:  # the client did not trust the certificate
                self.refused += 1
                return
        self.handshakes += 1
        with contextlib.suppress(OSError), near:
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                self._open += [near, far]
                back = threading.Thread(target=_pump, args=(far, near))
                back.start()
                _pump(near, far)
                back.join()

    def close(self) -> None:
        """Stop, and cut what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def front(authority: trustme.CA) -> Iterator[TlsFront]:
    store = ValkeyServer().start()
    opened = TlsFront(authority, store.port)
    yield opened
    opened.close()
    store.close()


def test_the_whole_service_works_on_a_store_behind_tls(authority, front, receiver: Receiver, tmp_path: Path):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    url = f"rediss://{USER}:password@127.0.0.1:{front.port}/0"
    with Service(REDIS_URL=url, SSL_CERT_FILE=str(bundle)) as service:
        application = service.application()
        body = {"queue": "q", "data": 1, "webhooks": {"completed": receiver.url("/done")}}
        headers = application.headers
        job_id = requests.post(f"{service.url}/api/jobs", json=body, headers=headers, timeout=10).json()["jobId"]
        done = {"status": "completed"}
        requests.put(f"{service.url}/api/jobs/{job_id}", json=done, headers=headers, timeout=10).raise_for_status()
        # the delivery has passed the API, the scheduler and both Celery workers
        assert receiver.wait_for(1, "/done", deadline_s=20)[0].json()["jobId"] == job_id


def test_a_certificate_of_a_stranger_is_refused(authority, front, tmp_path: Path):
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": f"rediss://127.0.0.1:{front.port}/0",
        "SSL_CERT_FILE": str(stranger),
        "PYTHONUNBUFFERED": "1",
    }
    output = tmp_path / "output"
    with output.open("wb") as file:
        scheduler = subprocess.Popen(
            child.command([sys.executable, "-m", "workers.scheduler"]),
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: "store is away" in output.read_text(), 20)
        wait_until(lambda: front.refused > 0, 10, "a refused handshake")
        assert front.handshakes == 0
    finally:
        scheduler.kill()
        scheduler.wait()
