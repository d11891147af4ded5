"""What the server in front of the routes does: bodies in pieces, clients that hang up or read slowly, the end."""

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from io import BytesIO
from typing import Any

import pytest
import requests

from api.app import create_app
from api.asgi import Asgi, environ_of
from api.hot.lane import HotLane, find
from config.settings import Settings
from mech_queue.model.job import JobSpec
from mech_queue.services import applications, jobs
from mech_queue.store import Store
from tests.support import wait_until
from tests.support.loop import LoopThread
from tests.support.service import Application, Service
from tests.support.valkey import ValkeyServer


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(roles=("api",), MAX_WAITERS="1", MAX_BODY_BYTES="200000") as found:
        yield found


@pytest.fixture
def application(service: Service) -> Application:
    return service.application("serving")


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def head(application: Application, method: str, path: str, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: tests", "Content-Type: application/json", *more]
    return "\r\n".join([*lines, f"x-api-key: {application.api_key}", "", ""]).encode()


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(65_536).split(b" ", 2)[1])


def jobs_of(service: Service, application: Application) -> list[Any]:
    answer = requests.get(f"{service.url}/api/jobs", headers=application.headers, timeout=10)
    return list(answer.json()["jobs"])


@pytest.mark.parametrize("size", [10, 100_000], ids=["in the loop", "in a thread"])
def test_a_body_in_chunks_is_taken(service: Service, application: Application, size: int) -> None:
    body = json.dumps({"queue": "q", "data": "x" * size}).encode()
    answer = requests.post(
        f"{service.url}/api/jobs",
        data=iter([body[:7], body[7:]]),
        headers={**application.headers, "Content-Type": "application/json"},
        timeout=10,
    )
    assert answer.status_code == 201
    assert jobs_of(service, application)[0]["data"] == "x" * size


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_too_large_is_refused(service: Service, application: Application, chunked: bool) -> None:
    body = b" " * 200_001
    answer = requests.post(
        f"{service.url}/api/jobs",
        data=iter([body]) if chunked else body,
        headers={**application.headers, "Content-Type": "application/json"},
        timeout=10,
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "TOO_LARGE"


def test_half_a_body_is_no_request(service: Service, application: Application) -> None:
    # given a client that dies in the middle of its body, which by chance is whole JSON
    with closing(connect(service)) as connection:
        connection.sendall(head(application, "POST", "/api/jobs", "Content-Length: 100") + b'{"queue":"q","data":1}')
    # when another request of the same kind has come through
    requests.post(
        f"{service.url}/api/jobs", json={"queue": "whole", "data": 1}, headers=application.headers, timeout=10
    )
    # then only that one made a job
    assert [job["queue"] for job in jobs_of(service, application)] == ["whole"]


def test_a_header_with_underscores_does_not_pass_for_one_with_dashes(service: Service) -> None:
    application = service.application("underscores")
    headers = {"x_api_key": application.api_key}
    assert requests.get(f"{service.url}/api/jobs", headers=headers, timeout=10).status_code == 401


def test_head_has_the_headers_and_no_body(service: Service, application: Application) -> None:
    answer = requests.head(f"{service.url}/api/jobs", headers=application.headers, timeout=10)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.content == b""


def test_idle_connections_keep_nobody_out(service: Service, application: Application) -> None:
    # given many more connections than requests may wait, kept open after a request
    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(closing(connect(service)))
            connection.sendall(head(application, "GET", "/health"))
            assert status_of(connection) == 200
        # then others are served as ever
        assert requests.get(f"{service.url}/health", timeout=5).status_code == 200


def poll(service: Service, application: Application, seconds: float) -> requests.Response:
    url = f"{service.url}/api/queues/q/claim"
    return requests.post(url, json={"wait": seconds}, headers=application.headers, timeout=20)


def somebody_waits(service: Service) -> bool:
    """Whether a request waits, or has waited: the first one lets the process listen at the store."""
    return bool(service.store.client().pubsub_channels())


def test_a_poller_that_hangs_up_leaves_its_place(service: Service, application: Application) -> None:
    # given the only place taken
    body = b'{"wait":20}'
    with closing(connect(service)) as connection:
        connection.sendall(head(application, "POST", "/api/queues/q/claim", f"Content-Length: {len(body)}") + body)
        wait_until(lambda: somebody_waits(service))
        assert "Retry-After" in poll(service, application, 0.1).headers
    # when its client hangs up
    # then the next one gets it, and a job goes to a client that is there
    wait_until(lambda: "Retry-After" not in poll(service, application, 0.1).headers)
    job = requests.post(
        f"{service.url}/api/jobs", json={"queue": "q", "data": 1}, headers=application.headers, timeout=10
    )
    assert [one["id"] for one in poll(service, application, 5).json()["jobs"]] == [job.json()["jobId"]]


def test_a_process_that_is_told_to_stop_answers_those_who_wait() -> None:
    # given a request that waits
    with Service(roles=("api",), MAX_WAITERS="1") as service:
        application = service.application("stopping")
        answers: list[requests.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(poll(service, application, 20)))
        waiting.start()
        wait_until(lambda: somebody_waits(service))
        # when the process is told to stop
        process = service.processes.pop("api")
        process.send_signal(signal.SIGTERM)
        # then it is answered, empty, and the process ends
        waiting.join(10)
        assert answers[0].json()["jobs"] == []
        assert process.wait(10) == 0


def test_a_process_that_is_told_to_stop_many_times_ends() -> None:
    with Service(roles=("api",)) as service:
        # given signals one upon the other, as when the parent's threads end or somebody leans on Ctrl-C
        process = service.processes.pop("api")
        for _ in range(20):
            process.send_signal(signal.SIGHUP)  # "start your workers anew", which it survives likewise

        def all_ended() -> bool:
            process.poll()  # an ended process stays in its group until somebody asks
            try:
                for _ in range(20):
                    os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                return True
            return False

        # then it ends all the same, and with it the process that serves
        try:
            wait_until(all_ended, 15)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class SlowReader:
    """A client of an ASGI application: each piece is taken when the test allows it."""

    SCOPE = {
        "method": "GET",
        "raw_path": b"/endless",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "server": ("tests", 80),
        "client": ("127.0.0.1", 1),
        "headers": [],
    }

    def __init__(self) -> None:
        self.allowed = asyncio.Semaphore(1)  # the head of the answer
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.allowed.acquire()


def test_a_stream_is_made_as_fast_as_it_is_read(redis_url: str, loop: LoopThread) -> None:
    # given a stream without end and a client that reads nothing yet
    app = create_app(Settings(redis_url=redis_url), Store.open(redis_url, greenlets=loop.greenlets))
    made = ended = 0

    @app.route("/endless")
    def endless() -> Any:
        def pieces() -> Iterator[bytes]:
            nonlocal made, ended
            try:
                while True:
                    made += 1
                    yield b"x"
            finally:
                ended += 1

        return app.response_class(pieces(), direct_passthrough=True)

    reader = loop.call(SlowReader)
    serving = loop.start(Asgi(app, loop.greenlets, loop.threads, 1_000)(reader.SCOPE, reader.receive, reader.send))
    wait_until(lambda: made == 1)
    # when it reads three pieces
    for _ in range(3):
        loop.call(reader.allowed.release)
    # then one more is made, and waits for it
    wait_until(lambda: made == 4)
    # and when it hangs up, the stream ends
    loop.call(reader.gone.set)
    for _ in range(2):
        loop.call(reader.allowed.release)
    serving.result(10)
    assert ended == 1
    assert made <= 5, "but what was under way"


def test_a_long_body_that_does_not_come_is_given_up(redis_url: str, loop: LoopThread) -> None:
    # given a client that tells a long body and sends the beginning only
    app = create_app(Settings(redis_url=redis_url), Store.open(redis_url, greenlets=loop.greenlets))
    asgi = loop.call(lambda: Asgi(app, loop.greenlets, loop.threads, 1_000_000, long_within_s=0.05))
    pieces, answer = [b"{"], []

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message.get("status"))

    scope = {**SlowReader.SCOPE, "method": "POST", "headers": [(b"content-length", b"100000")]}
    # when it has had its time
    loop.wait_for(asgi(scope, receive, send))
    # then it is told so
    assert answer == [408, None]


def test_no_hot_request_holds_up_the_others_while_the_store_stands_still(
    valkey_server: ValkeyServer, loop: LoopThread
) -> None:
    # given an application with a job, and a process that has asked the store nothing yet
    url = valkey_server.fresh_database()
    setup = Store.open(url)
    setup.greet(initialise=True)
    key = applications.create(setup, "patient").api_key
    application = applications.authenticate(setup, key)
    assert application is not None
    job_id = jobs.submit(setup, application.application_id, JobSpec("q")).job_id
    setup.close()
    settings = Settings(redis_url=url, rate_limit_max_requests=1_000_000)
    store = Store.open(url, greenlets=loop.greenlets)
    lane = create_app(settings, store).wsgi_app
    assert isinstance(lane, HotLane)

    def start(method: str, path: str, body: bytes = b"") -> "asyncio.Future[Any]":
        environ = {
            **environ_of({**SlowReader.SCOPE, "method": method, "raw_path": path.encode()}),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_API_KEY": key,
            "wsgi.input": BytesIO(body),
        }
        found = find(method, path)
        assert found is not None
        return loop.greenlets.run(lane.answer, *found, environ)

    async def ask_all() -> list[int]:
        hot = [
            start("GET", f"/api/jobs/{job_id}"),
            start("POST", "/api/jobs", b'{"queue":"q","data":1}'),
            start("POST", "/api/queues/q/claim", b"{}"),
            start("POST", "/api/queues/claim", b'{"queues":["q"]}'),
            start("PUT", f"/api/jobs/{job_id}", b'{"status":"progress","progress":1}'),
        ]
        # then another request is answered while all of them wait
        assert await loop.greenlets.run(lambda: "answered") == "answered"
        assert not any(one.done() for one in hot)
        os.kill(valkey_server.pid, signal.SIGCONT)
        return [status for status, _, _ in await asyncio.gather(*hot)]

    # when the store stands still
    os.kill(valkey_server.pid, signal.SIGSTOP)
    try:
        statuses = loop.wait_for(ask_all())
    finally:
        os.kill(valkey_server.pid, signal.SIGCONT)
    assert max(statuses) < 500
    loop.call(store.close)
