"""The API as a WSGI application over a real store; every test gets an application of its own."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app, runtime_of
from config.settings import Settings
from mech_queue.model.application import ALL_SCOPES, ApplicationSettings
from mech_queue.services import applications
from mech_queue.store import Store
from tests.support.valkey import ValkeyServer

MASTER_KEY = "a-master-key-of-the-tests-0123456789"
JSON = {"Content-Type": "application/json"}


@dataclass
class Api:
    """A client with a key. Bodies may be values or raw bytes."""

    client: FlaskClient
    headers: dict[str, str] = field(default_factory=dict)
    application_id: str = ""
    key_id: str = ""

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request; header names with _ for -."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is None:
            return self.client.open(path, method=method, headers=sent)
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return self.client.open(path, method=method, data=data, headers={**JSON, **sent})

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PUT", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.send("DELETE", path, **headers)

    def submit(self, queue: str = "email", **more: Any) -> str:
        """A new job's id."""
        answer = self.post("/api/jobs", {"queue": queue, "data": 1, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json["jobId"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The job object."""
        answer = self.get(f"/api/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json["job"])


@dataclass
class World:
    """A store with an API in front: ``app`` with the hot lane, ``plain`` all through Flask."""

    settings: Settings
    store: Store
    app: Flask
    plain: Flask

    def application(
        self,
        app: Flask | None = None,
        scopes: frozenset[str] = ALL_SCOPES,
        **settings: Any,
    ) -> Api:
        """A client with a key of a new application."""
        created = applications.create(self.store, "test", ApplicationSettings(**settings))
        key = applications.add_key(self.store, created.application.id, scopes=scopes)  # type: ignore[arg-type]
        client = (app or self.app).test_client()
        return Api(client, {"x-api-key": key.api_key}, created.application.id, key.record.id)

    def anonymous(self) -> Api:
        """A client without a key."""
        return Api(self.app.test_client())

    def master(self, **headers: str) -> Api:
        """A client with the master key."""
        return Api(self.app.test_client(), {"x-api-key": MASTER_KEY, **headers})


@pytest.fixture(scope="module")
def make_world(valkey_server: ValkeyServer) -> Iterator[Callable[..., World]]:
    """Makes worlds with other settings."""
    worlds: list[World] = []

    def make(**settings: Any) -> World:
        url = valkey_server.fresh_database()
        chosen = Settings(redis_url=url, master_api_key=MASTER_KEY, **settings)
        store = Store.open(url)
        store.greet(initialise=True, defaults=chosen.job_defaults)
        applications.ensure_master(store)
        app, plain = create_app(chosen, store), create_app(chosen, store, hot_lane=False)
        worlds.append(World(chosen, store, app, plain))
        return worlds[-1]

    yield make
    for world in worlds:
        for app in (world.app, world.plain):
            runtime_of(app).waiters.close()
        world.store.close()


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    """One world per module, with default settings."""
    return make_world()


@pytest.fixture
def api(world: World) -> Api:
    """A key with all scopes of a new application."""
    return world.application()


@pytest.fixture
def other(world: World) -> Api:
    """Another application's key."""
    return world.application()


@pytest.fixture
def anonymous(world: World) -> Api:
    """No key."""
    return world.anonymous()
