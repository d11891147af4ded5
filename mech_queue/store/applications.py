"""Applications and their API keys in the store.

An application is its hash ``about`` inside its shard. Two keys lie outside the shards, since they lead
to them: ``mq:applications`` lists ids, ``mq:keys`` leads from the digest of an API key to (application,
key id). No script can reach both sides, so they are written by plain commands, in an order in which a
kill between two of them leaves nothing that opens anything:

- create: list first, application second, key last. A listed id without ``about`` is dropped by ``page``.
- a key: its record in the shard first, the way to it second. Only the record says what it may.
- revoke: the record first (from then on the way leads nowhere), the way second.
- delete: the mark first (from then on no key of it opens anything), then the ways, then the list.
"""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from mech_queue.model.application import (
    MASTER,
    Application,
    ApplicationSettings,
    KeyRecord,
    Scope,
    Secret,
    parse_settings,
)
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.job import State
from mech_queue.model.problems import Problems
from mech_queue.store import keys
from mech_queue.store.connection import read, translated
from mech_queue.store.digest import search_field
from mech_queue.store.sealing import box_of, seal, secrets_of, secrets_to_json, unseal

if TYPE_CHECKING:
    from mech_queue.store.store import Store

MAX_KEYS = 50  # per application, so that a loop that forgets to revoke is noticed
ABOUT = ("name", "settings", "created", "updated", "version", "deleted")


_SCOPES = {scope.value for scope in Scope}


def missing() -> Refusal:
    """The refusal for an application that does not exist."""
    return Refusal(Code.NOT_FOUND, "There is no such application.")


class KeyHolder(NamedTuple):
    """What a digest leads to, read at ``now_ms`` (the store's time, unix ms)."""

    application: Application
    key: KeyRecord
    now_ms: int


WAYS_KEPT = 20_000


class Applications:
    """Applications, their keys and webhook secrets. Every method raises Refusal.

    Nothing here is cached but the way from a key to its application: in a cluster that is on another node, without
    which those who have come before can still come in.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._ways: dict[bytes, bytes] = {}  # a digest never changes hands, and the record says if it still counts

    def create(
        self, application_id: str, name: str, settings: ApplicationSettings, secrets: tuple[Secret, ...]
    ) -> bool:
        """Keep a new application; False when it was there already. The built-in one is in no list."""
        created_ms = self._store.now_ms()
        if application_id != MASTER:
            read(self._store.redis, "ZADD", keys.APPLICATIONS, "NX", created_ms, application_id)
        args = {
            "name": name,
            "settings": _settings_text(settings),
            "sealed": seal(self._store, secrets_to_json(secrets)),
            "created": created_ms,
            "limits": _limits(settings)[0],
        }
        return bool(self._run("application_create", application_id, args, idempotent=True))

    def get(self, application_id: str) -> Application:
        """One application. Raises Refusal(NOT_FOUND)."""
        found = self._get_many([application_id])[0]
        if found is None:
            raise missing()
        return found

    def page(self, limit: int, after: str | None = None) -> tuple[list[Application], str | None]:
        """Up to ``limit`` applications by age, those after the cursor; and the cursor of the next page."""
        listed = self._listed(limit, after)
        rows = self._get_many([application_id for _, application_id in listed])
        old_ms = self._store.now_ms() - 60_000
        for (created_ms, application_id), row in zip(listed, rows, strict=True):
            if row is None and created_ms < old_ms:  # a create that was killed, or a delete
                read(self._store.redis, "ZREM", keys.APPLICATIONS, application_id)
        found = [row for row in rows if row is not None]
        return found, _cursor(*listed[-1]) if len(listed) == limit else None

    def _listed(self, limit: int, after: str | None) -> list[tuple[int, str]]:
        """(created ms, id) of the next ``limit`` in the list; several may be of one ms."""
        known, _, last = (after or "0:").partition(":")
        start = (int(known), last)
        found: list[tuple[int, str]] = []
        with translated():
            at = self._store.redis.zcount(keys.APPLICATIONS, "-inf", f"({start[0]}")
            while len(found) < limit:
                rows = self._store.redis.zrange(keys.APPLICATIONS, at, at + limit - 1, withscores=True)
                if not rows:
                    break
                pairs = [(int(score), member.decode()) for member, score in rows]
                found += [pair for pair in pairs if pair > start]
                at += len(rows)
        return found[:limit]

    def change(
        self,
        before: Application,
        *,
        name: str | None = None,
        settings: ApplicationSettings | None = None,
        secrets: tuple[Secret, ...] | None = None,
    ) -> bool:
        """Write what is given, if nobody changed the application since ``before`` was read; else False."""
        args: dict[str, Any] = {"version": before.version}
        if name is not None:
            args["name"] = name
        if settings is not None:
            args["settings"] = _settings_text(settings)
            args["limits"], args["unlimited"] = _limits(settings)
        if secrets is not None:
            args["sealed"] = seal(self._store, secrets_to_json(secrets))
        return int(self._run("application_change", before.id, args)) > 0

    def delete(self, application_id: str) -> None:
        """Mark it as deleted, which stops its keys; its data goes in the background."""
        self._run("application_delete", application_id, {"field": search_field("application", application_id)})
        digests = [key.digest for key in self.keys(application_id)]
        if digests:
            read(self._store.redis, "HDEL", keys.API_KEYS, *digests)
        read(self._store.redis, "ZREM", keys.APPLICATIONS, application_id)

    def secrets(self, application_id: str) -> tuple[Secret, ...]:
        """The webhook secrets, newest first, expired ones included; () when there is no such application."""
        sealed, deleted = read(self._store.redis, "HMGET", keys.prefix(application_id) + b"about", "sealed", "deleted")
        return self.opened(sealed) if sealed and not deleted else ()

    def opened(self, sealed: bytes) -> tuple[Secret, ...]:
        """Webhook secrets out of their seal; () out of nothing."""
        return secrets_of(unseal(self._store, sealed)) if sealed else ()

    def sealed_by_first_key(self, application_id: str) -> bool:
        """Whether its secrets stand under the key that encrypts now; True when there is no such application."""
        sealed = read(self._store.redis, "HGET", keys.prefix(application_id) + b"about", "sealed")
        return sealed is None or box_of(self._store).current(sealed)

    def usage(self, application_id: str) -> dict[str, int]:
        """Jobs by state now."""
        names = [f"n{state.letter}" for state in State]
        row = read(self._store.redis, "HMGET", keys.prefix(application_id) + b"app", *names)
        return {state.value: int(number or 0) for state, number in zip(State, row, strict=True)}

    def add_key(self, application_id: str, key: KeyRecord) -> None:
        """Give an application one more key. Raises Refusal(NOT_FOUND, CONFLICT)."""
        args = {"id": key.id, "record": _key_text(key), "most": MAX_KEYS}
        self._run("key_add", application_id, args, idempotent=True)
        read(self._store.redis, "HSET", keys.API_KEYS, key.digest, f"{application_id} {key.id}")

    def change_key(self, application_id: str, key: KeyRecord) -> None:
        """Replace a key's record, if it still lives. Raises Refusal(NOT_FOUND)."""
        self._run("key_change", application_id, {"id": key.id, "record": _key_text(key)}, idempotent=True)

    def revoke_key(self, application_id: str, key_id: str) -> KeyRecord:
        """Take a key away; answers what it was. Raises Refusal(NOT_FOUND)."""
        before = _key_of(key_id, self._run("key_change", application_id, {"id": key_id}))
        read(self._store.redis, "HDEL", keys.API_KEYS, before.digest)
        return before

    def keys(self, application_id: str) -> list[KeyRecord]:
        """All keys of an application, oldest first."""
        with translated():
            rows = self._store.redis.hgetall(keys.prefix(application_id) + b"keys")
        found = [_key_of(key_id.decode(), text) for key_id, text in rows.items()]
        return sorted(found, key=lambda key: (key.created_ms, key.id))

    def holder(self, digest: bytes) -> KeyHolder | None:
        """Whose key has this digest; None when nobody's, or when its application is deleted."""
        way = self._ways.get(digest) or read(self._store.redis, "HGET", keys.API_KEYS, digest)
        if way is None:
            return None
        application_id, _, key_id = way.decode().partition(" ")
        place = keys.prefix(application_id)
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.hmget(place + b"about", *ABOUT)
            pipe.hget(place + b"keys", key_id)
            pipe.time()
            about, key, (seconds, micros) = pipe.execute()
        application = _application(application_id, about)
        if application is None or key is None:
            self._ways.pop(digest, None)
            return None
        if len(self._ways) >= WAYS_KEPT:
            self._ways.clear()
        self._ways[digest] = way
        return KeyHolder(application, _key_of(key_id, key), seconds * 1000 + micros // 1000)

    def _get_many(self, ids: list[str]) -> list[Application | None]:
        with translated():
            pipe = self._store.redis.pipeline(transaction=False)
            for application_id in ids:
                pipe.hmget(keys.prefix(application_id) + b"about", *ABOUT)
            rows = pipe.execute()
        return [_application(application_id, row) for application_id, row in zip(ids, rows, strict=True)]

    def _run(self, name: str, application_id: str, args: dict[str, Any], *, idempotent: bool = False) -> Any:
        return self._store.scripts.run(name, application_id, args, idempotent=idempotent)


def _cursor(created_ms: int, application_id: str) -> str:
    return f"{created_ms:013d}:{application_id}"


def _settings_text(settings: ApplicationSettings) -> str:
    return json.dumps(settings.to_json(), ensure_ascii=False)


def _limits(settings: ApplicationSettings) -> tuple[dict[str, int], list[str]]:
    """What the scripts read of the settings: fields to set, fields to clear."""
    kept = settings.retention
    fields = {
        "max": settings.max_concurrent_jobs,
        "max_waiting": settings.max_waiting,
        "keep_completed_s": kept.completed_seconds,
        "keep_completed_n": kept.completed_count,
        "keep_failed_s": kept.failed_seconds,
        "keep_failed_n": kept.failed_count,
        "keep_cancelled_s": kept.cancelled_seconds,
        "keep_cancelled_n": kept.cancelled_count,
    }
    limits = {name: number for name, number in fields.items() if number is not None}
    return limits, [name for name in fields if name not in limits]


def _application(application_id: str, row: list[bytes | None]) -> Application | None:
    name, settings, created, updated, version, deleted = row
    if name is None or settings is None or deleted is not None:
        return None
    return Application(
        id=application_id,
        name=name.decode(),
        settings=parse_settings(json.loads(settings), Problems()),
        created_ms=int(created or 0),
        updated_ms=int(updated or 0),
        version=int(version or 0),
    )


def _key_text(key: KeyRecord) -> str:
    return json.dumps(
        {
            "digest": key.digest.hex(),
            "last_four": key.last_four,
            "scopes": sorted(key.scopes),
            "name": key.name,
            "created": key.created_ms,
            "expires": key.expires_ms,
        }
    )


def _key_of(key_id: str, text: bytes) -> KeyRecord:
    row = json.loads(text)
    return KeyRecord(
        id=key_id,
        digest=bytes.fromhex(row["digest"]),
        last_four=row["last_four"],
        scopes=frozenset(Scope(name) for name in row["scopes"] if name in _SCOPES),
        name=row["name"],
        created_ms=row["created"],
        expires_ms=row["expires"],
    )
