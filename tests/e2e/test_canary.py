"""What must never show: keys, webhook secrets, header values and tokens in URLs, looked for in all that leaves."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.support import Receiver, wait_until
from tests.support.service import MASTER_KEY, ROLES, Application, Service

HEADER, TOKEN, LOGIN = "canary-header-value", "canary-query-token", "canary-user-info"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """All processes, as talkative as they get."""
    with Service(roles=(*ROLES, "metrics", "flower"), LOG_LEVEL="debug") as running:
        yield running


def api(service: Service, application: Application, method: str, path: str, body: Any = None) -> requests.Response:
    return requests.request(method, service.url + path, json=body, headers=application.headers, timeout=20)


def texts_of_the_store(client: Any) -> Iterator[bytes]:
    """Every key, field, member and value."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": lambda key: [client.get(key)],
        b"hash": lambda key: [part for pair in client.hgetall(key).items() for part in pair],
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": lambda key: [repr(client.xrange(key)).encode()],
    }
    for key in client.scan_iter():
        yield key
        yield from readers[client.type(key)](key)


def test_no_secret_shows_anywhere(service: Service, receiver: Receiver) -> None:
    # given secrets of every kind, in use: deliveries that succeed, fail and are refused
    application = service.application()
    url = receiver.script("/s", [500, 200]) + f"?token={TOKEN}"
    subscription = {
        "name": "s", "endpoint": url, "events": ["completed"], "headers": {"Authorization": HEADER},
        "retryConfig": {"maxAttempts": 3, "backoffMs": 100},
    }  # fmt: skip
    made = api(service, application, "POST", "/api/subscriptions", subscription).json()["subscription"]
    rotated = api(service, application, "POST", f"/api/subscriptions/{made['id']}/rotate-secret").json()["secret"]
    hooks = {"completed": receiver.url(f"/h?token={TOKEN}"), "started": f"http://127.0.0.1:1024/?token={TOKEN}"}
    answers = []
    for number in range(3):
        job: dict[str, Any] = {"queue": "q", "data": number, "webhooks": hooks}
        job_id = api(service, application, "POST", "/api/jobs", job).json()["jobId"]
        answers.append(api(service, application, "PUT", f"/api/jobs/{job_id}", {"status": "completed"}))
    receiver.wait_for(4, "/s", 30)
    receiver.wait_for(3, "/h", 30)
    assert receiver.of("/s")[0].headers["authorization"] == HEADER
    # and requests that are refused, with secrets in them
    wrong = {**subscription, "headers": {"Host": HEADER}, "endpoint": f"http://{LOGIN}:pw@a.example/?token={TOKEN}"}
    answers.append(api(service, application, "POST", "/api/subscriptions", wrong))
    refused = {"queue": "q", "data": 1, "webhooks": {"failed": f"http://{LOGIN}@a.example/?token={TOKEN}"}}
    answers.append(api(service, application, "POST", "/api/jobs", refused))
    answers.append(requests.get(f"{service.url}/api/jobs", headers={"x-api-key": f"{application.api_key}x"}, timeout=9))
    assert [answer.status_code for answer in answers[-3:]] == [422, 422, 401]
    for path in ("/api/deliveries", "/api/subscriptions", "/api/application", "/api/application/keys"):
        answers.append(api(service, application, "GET", path))
    for one in api(service, application, "GET", "/api/deliveries").json()["deliveries"]:
        answers.append(api(service, application, "GET", f"/api/deliveries/{one['id']}"))

    # when everything that leaves the service is collected
    flower = f"http://127.0.0.1:{service.flower_port}"
    login = ("tests", "tests")

    def tasks() -> str:
        answer = requests.get(f"{flower}/api/tasks", auth=login, timeout=9)
        return answer.text if "mech_queue.deliver" in answer.text else ""

    shown = {
        "Flower's tasks": wait_until(tasks, 30, "Flower shows the stages' tasks"),
        "Flower's page": requests.get(f"{flower}/tasks", auth=login, timeout=9).text,
        "metrics": requests.get(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=9).text,
        "answers": "\n".join(answer.text for answer in answers),
        **{f"log of {role}": service.whole_log(role) for role in service.roles},
    }
    with service.store.client() as client:
        stored = b"\n".join(texts_of_the_store(client))

    # then none of it is there
    whsec = [secret.removeprefix("whsec_") for secret in (application.webhook_secret, made["secret"], rotated)]
    secrets = [application.api_key, MASTER_KEY, *whsec, HEADER, LOGIN, *service.environment["SECRETS_KEY"].split(",")]
    found = [(place, secret) for place, text in shown.items() for secret in secrets if secret in text]
    assert found == []
    assert [secret for secret in secrets if secret in stored.decode("utf-8", "replace")] == []
    # a subscription's own GET shows its endpoint whole, as it was given; nothing else shows a token
    shown["answers"] = "\n".join(answer.text for answer in answers if "/api/subscriptions" not in answer.url)
    assert [place for place, text in shown.items() if TOKEN in text] == []
    assert all(len(shown[f"log of {role}"]) > 100 for role in ROLES), "the logs were not collected"
    assert json.loads(answers[-1].text)["delivery"]["attempts"]
