"""/health and what needs no key."""

import os
import signal
import time
from typing import Any

from api.app import create_app, runtime_of
from config.settings import Settings
from mech_queue.services import applications
from mech_queue.store import Store
from tests.api.conftest import MASTER_KEY, Api, World
from tests.support.valkey import ValkeyServer


def test_a_healthy_service_says_so_with_totals(make_world: Any) -> None:
    world: World = make_world()
    api = world.application()
    api.submit()
    api.put(f"/api/jobs/{api.submit()}", {"status": "completed"})
    answer = world.anonymous().get("/health")
    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["redis"]) == ("healthy", "connected")
    assert answer.json["uptime"] > 0
    assert answer.json["version"]
    assert (answer.json["queues"]["waiting"], answer.json["queues"]["completed"]) == (1, 1)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_store_that_hangs_or_died_is_told_within_a_second_and_heals() -> None:
    server = ValkeyServer().start()
    try:
        settings = Settings(redis_url=server.url(), master_api_key=MASTER_KEY)
        store = Store.open(settings.redis_url)
        store.greet(initialise=True)
        applications.ensure_master(store)
        app = create_app(settings, store)
        api = Api(app.test_client())
        assert api.get("/health").status_code == 200

        os.kill(server.pid, signal.SIGSTOP)
        for path in ("/health", "/health/ready"):
            began = time.monotonic()
            answer = api.get(path)
            assert (answer.status_code, answer.json["redis"]) == (503, "disconnected")
            assert answer.json["error"]
            assert answer.headers["Retry-After"]
            assert time.monotonic() - began < 1
        assert api.get("/health/live").status_code == 200
        os.kill(server.pid, signal.SIGCONT)
        assert api.get("/health").status_code == 200

        server.kill()
        assert api.get("/health").status_code == 503
        refused = Api(app.test_client(), {"x-api-key": "sk_unknown"}).get("/api/jobs")
        assert (refused.status_code, refused.json["code"]) == (503, "STORE_UNAVAILABLE")
        assert refused.headers["Retry-After"]
        master = Api(app.test_client(), {"x-api-key": MASTER_KEY}).post("/api/jobs", {"queue": "q", "data": 1})
        assert (master.status_code, master.json["code"]) == (503, "STORE_UNAVAILABLE")
        assert str(server.port) not in master.text
        server.start()
        assert api.get("/health").status_code == 200
        runtime_of(app).waiters.close()
        store.close()
    finally:
        server.close()


def test_the_root_leads_to_everything(anonymous: Api) -> None:
    answer = anonymous.get("/")
    assert answer.json["success"] is True
    links = answer.json["links"]
    assert {"docs", "openapi", "health", "jobs", "queues", "applications", "subscriptions"} <= set(links)
    for name, path in links.items():
        assert anonymous.get(path).status_code in (200, 401), name
    page = anonymous.get("/", Accept="text/html,*/*;q=0.5")
    assert page.headers["Content-Type"].startswith("text/html")
    assert 'href="/docs"' in page.text
