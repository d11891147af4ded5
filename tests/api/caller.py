"""Somebody who calls the API in this process: one key, and answers as values."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask

from api.app import create_app
from config.settings import Settings
from mech_queue.store import Store
from tests.support.valkey import ValkeyServer

MASTER_KEY = "master-key-of-the-tests-0123456789abcdef"
SECRETS_KEY = "kO9g2wPlvCm0fzlmqGuW8PSm1nJ-hUBTOAJqEAcuGJ8="


def make_app(store: Store, **settings: Any) -> Flask:
    """The whole application over a test's store."""
    named = {"redis_url": store.url, "master_api_key": MASTER_KEY, "secrets_key": SECRETS_KEY, **settings}
    return create_app(Settings(**named), store)


@dataclass
class Answer:
    """Status, parsed body and headers."""

    status: int
    body: Any
    headers: Any
    raw: bytes = field(repr=False, default=b"")


@dataclass
class Caller:
    """One key. ``call("POST", "/api/jobs", {...})``."""

    app: Flask
    key: str | None
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; ``body`` goes as JSON."""
        sent = {**self.headers, **headers}
        if self.key is not None:
            sent["x-api-key"] = self.key
        data = None if body is None else json.dumps(body)
        response = self.app.test_client().open(
            path,
            method=method,
            data=data,
            headers=sent,
            content_type="application/json" if data is not None else None,
            buffered=True,
        )
        parsed = json.loads(response.data) if response.data and response.is_json else None
        return Answer(response.status_code, parsed, response.headers, response.data)


def master(app: Flask) -> Caller:
    """The master key."""
    return Caller(app, MASTER_KEY)


def new_application(app: Flask, name: str = "Shop", scopes: list[str] | None = None, **settings: Any) -> Caller:
    """A key of a new application; with ``scopes`` one that has just these."""
    made = master(app).call("POST", "/api/applications", {"name": name, "settings": settings})
    assert made.status == 201, made.body
    key = made.body["data"]["apiKey"]
    if scopes is not None:
        path = f"/api/applications/{made.body['data']['id']}/keys"
        key = master(app).call("POST", path, {"scopes": scopes}).body["data"]["apiKey"]
    return Caller(app, key)


@pytest.fixture(scope="module")
def app(valkey_server: ValkeyServer) -> Iterator[Flask]:
    """One application for a module's tests (it takes half a second to build); import it to use it."""
    store = Store.open(valkey_server.fresh_database())
    store.greet(initialise=True)
    yield make_app(store)
    store.close()
