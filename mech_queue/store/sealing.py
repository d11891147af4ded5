"""Secrets as they stand in the store: JSON, encrypted with SECRETS_KEY."""

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mech_queue.model.application import Secret

if TYPE_CHECKING:
    from mech_queue.model.secretbox import SecretBox
    from mech_queue.store.store import Store


def box_of(store: "Store") -> "SecretBox":
    """The box of this process. Native workers have none and never come here."""
    return _box(store.secrets_key)


@lru_cache(maxsize=4)
def _box(secrets_key: str | None) -> "SecretBox":
    from mech_queue.model.secretbox import SecretBox  # needs `cryptography`, which only the service installs

    return SecretBox(secrets_key)


def seal(store: "Store", value: Any) -> bytes:
    """Any JSON value, sealed."""
    return box_of(store).seal(json.dumps(value, ensure_ascii=False).encode())


def unseal(store: "Store", sealed: bytes) -> Any:
    """What was sealed. Raises SecretsKeyError when SECRETS_KEY does not fit."""
    return json.loads(box_of(store).open(sealed))


def secrets_to_json(secrets: tuple[Secret, ...]) -> list[list[Any]]:
    """Webhook secrets as kept inside a seal."""
    return [[one.text, one.expires_ms] for one in secrets]


def secrets_of(rows: list[list[Any]]) -> tuple[Secret, ...]:
    """The inverse of ``secrets_to_json``."""
    return tuple(Secret(text, expires_ms) for text, expires_ms in rows)
