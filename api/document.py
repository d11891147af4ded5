"""Writes docs/openapi.json: ``python -m api.document > docs/openapi.json``. No store is needed."""

import json

from api.app import create_app
from config.settings import Settings
from mech_queue.store import Store


def render() -> str:
    """The OpenAPI document as it is served, indented."""
    nowhere = "redis://127.0.0.1:1"
    app = create_app(Settings(redis_url=nowhere), Store.open(nowhere))
    served = app.test_client().get("/openapi.json").get_json()
    return json.dumps(served, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(render(), end="")
