"""Applications, their API keys and webhook secrets; who a key belongs to."""

import hashlib
import hmac
import re
import secrets as random
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mech_queue.model.application import (
    ALL_SCOPES,
    DEFAULT_SCOPES,
    MASTER,
    Application,
    ApplicationSettings,
    Caller,
    KeyRecord,
    Scope,
    Secret,
    live_secrets,
    parse_name,
    parse_settings,
)
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import new_api_key, new_application_id
from mech_queue.model.problems import Problems
from mech_queue.model.signing import new_secret
from mech_queue.store import Store

CACHE_S = 5.0  # how long a process may go on with what it knew of a key
CACHE_MOST = 10_000
OVERLAP_S = 86_400  # an old webhook secret signs along for a day
MAX_OVERLAP_S = 7 * 86_400
MAX_OLD_SECRETS = 10
TRIES = 20  # of a change against concurrent ones


@dataclass(frozen=True, slots=True)
class Created:
    """A new application, with the only sight of its key and its webhook secret."""

    application: Application
    key: KeyRecord
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, with the only sight of it."""

    record: KeyRecord
    api_key: str = field(repr=False)


def create(store: Store, name: str, settings: ApplicationSettings | None = None) -> Created:
    """A new application with one key of the default scopes."""
    problems = Problems()
    name = parse_name(name, problems)
    problems.raise_any()
    application_id, secret = new_application_id(), new_secret()
    store.applications.create(application_id, name, settings or ApplicationSettings(), (Secret(secret),))
    new = add_key(store, application_id)
    return Created(store.applications.get(application_id), new.record, new.api_key, secret)


def ensure_master(store: Store) -> None:
    """Make the built-in application, on which the master key acts by default, unless it is there."""
    store.applications.create(MASTER, MASTER, ApplicationSettings(), (Secret(new_secret()),))


def list_(store: Store, *, limit: int = 100, cursor: str | None = None) -> tuple[list[Application], str | None]:
    """Applications by age, and the cursor of the next page; the built-in one is not among them."""
    return store.applications.page(limit, cursor)


def is_cursor(text: str) -> bool:
    """Whether a cursor can be one of ``list_``."""
    return re.fullmatch(r"[0-9]{13}:[a-z0-9-]{1,64}", text) is not None


def get(store: Store, application_id: str) -> Application:
    """One application. Raises Refusal(NOT_FOUND)."""
    return store.applications.get(application_id)


def change(
    store: Store, application_id: str, *, name: str | None = None, settings: dict[str, Any] | None = None
) -> Application:
    """Change the name, or merge settings (wire form; null takes a limit away). Raises Refusal(NOT_FOUND, INVALID)."""
    problems = Problems()
    if name is not None:
        name = parse_name(name, problems)

    def attempt() -> bool:
        before = store.applications.get(application_id)
        merged = parse_settings(settings, problems, before.settings) if settings is not None else None
        problems.raise_any()
        return store.applications.change(before, name=name, settings=merged)

    until_unchanged(attempt)
    _cache(store).forget(application_id)
    return store.applications.get(application_id)


def delete(store: Store, application_id: str) -> None:
    """Stop its keys at once and remove its data in the background. Raises Refusal(NOT_FOUND, CONFLICT)."""
    if application_id == MASTER:
        raise Refusal(Code.CONFLICT, "The built-in application cannot be deleted.")
    store.applications.delete(application_id)
    _cache(store).forget(application_id)


def usage(store: Store, application_id: str) -> dict[str, int]:
    """Jobs by state now."""
    return store.applications.usage(application_id)


# Keys


def add_key(
    store: Store,
    application_id: str,
    *,
    name: str | None = None,
    scopes: frozenset[Scope] = DEFAULT_SCOPES,
    expires_in_s: int | None = None,
    replaces: str | None = None,
    overlap_s: int = OVERLAP_S,
) -> NewKey:
    """One more key. ``replaces``: an older key that goes on for ``overlap_s`` seconds and then stops."""
    now_ms = store.now_ms()  # by which it will be judged
    old = _key(store, application_id, replaces) if replaces else None
    api_key = new_api_key()
    record = KeyRecord(
        id="key-" + random.token_hex(6),
        digest=digest(api_key),
        last_four=api_key[-4:],
        scopes=scopes,
        name=name,
        created_ms=now_ms,
        expires_ms=now_ms + expires_in_s * 1000 if expires_in_s is not None else None,
    )
    store.applications.add_key(application_id, record)
    if old is not None:
        ends_ms = now_ms + overlap_s * 1000
        if old.expires_ms is None or ends_ms < old.expires_ms:
            store.applications.change_key(application_id, replace(old, expires_ms=ends_ms))
        _cache(store).forget(application_id)
    return NewKey(record, api_key)


def keys(store: Store, application_id: str) -> list[KeyRecord]:
    """All keys of an application, oldest first, without the keys themselves."""
    store.applications.get(application_id)
    return store.applications.keys(application_id)


def revoke_key(store: Store, application_id: str, key_id: str) -> None:
    """Take a key away; it stops here at once, elsewhere within five seconds. Raises Refusal(NOT_FOUND)."""
    store.applications.get(application_id)
    store.applications.revoke_key(application_id, key_id)
    _cache(store).forget(application_id)


def _key(store: Store, application_id: str, key_id: str) -> KeyRecord:
    for key in store.applications.keys(application_id):
        if key.id == key_id:
            return key
    raise Refusal(Code.NOT_FOUND, "There is no such key.")


# Webhook secrets


def rotate_webhook_secret(store: Store, application_id: str, *, overlap_s: int = OVERLAP_S) -> str:
    """A new secret for job webhooks; the old one signs along for ``overlap_s`` seconds (at most a week)."""
    secret = new_secret()

    def attempt() -> bool:
        before = store.applications.get(application_id)
        known = store.applications.secrets(application_id)
        return store.applications.change(before, secrets=rotated(known, secret, overlap_s))

    until_unchanged(attempt)
    return secret


def webhook_secrets(store: Store, sealed: bytes) -> list[str]:
    """The secrets that sign an application's job webhooks now, newest first, out of their seal (b"": none)."""
    return live_secrets(store.applications.opened(sealed))


def rotated(known: tuple[Secret, ...], secret: str, overlap_s: int) -> tuple[Secret, ...]:
    """Secrets after a rotation: the new one, then those whose overlap lasts (the last one: ``overlap_s``)."""
    now_ms = int(time.time() * 1000)
    ends_ms = now_ms + overlap_s * 1000
    old = [replace(one, expires_ms=ends_ms) if one.expires_ms is None else one for one in known]
    old = [one for one in old if one.expires_ms is not None and one.expires_ms > now_ms]
    if len(old) > MAX_OLD_SECRETS:
        raise Refusal(
            Code.CONFLICT,
            f"{MAX_OLD_SECRETS} older secrets are still valid; wait until their overlap ends.",
        )
    return (Secret(secret), *old)


def until_unchanged(attempt: Callable[[], bool]) -> None:
    """Repeat a read-and-write until nobody wrote in between."""
    for _ in range(TRIES):
        if attempt():
            return
    raise Refusal(Code.CONFLICT, "It is being changed by many at once; try again.")


# Who a key belongs to


def digest(api_key: str) -> bytes:
    """What the store keeps of a key. A key has 256 random bits, so no salt and no slow hash is needed."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).digest()


def authenticate(store: Store, key: str) -> Caller | None:
    """Whose key this is; None when nobody's. Raises Refusal(STORE_UNAVAILABLE) when it cannot be known.

    What is found is remembered for five seconds, so a revoked key stops within them.
    """
    known = digest(key)
    cache = _cache(store)
    found = cache.get(known)
    if found is not None:
        return found
    holder = store.aside(store.applications.holder, known)
    if holder is None or not hmac.compare_digest(holder.key.digest, known):
        return None
    if not holder.key.live(holder.now_ms):
        return None
    application = holder.application
    caller = Caller(
        application_id=application.id,
        key_id=holder.key.id,
        scopes=frozenset(holder.key.scopes),
        settings=application.settings,
        name=application.name,
    )
    expires_ms = holder.key.expires_ms
    left_s = CACHE_S if expires_ms is None else min(CACHE_S, (expires_ms - holder.now_ms) / 1000)
    cache.put(known, caller, left_s)
    return caller


def master_caller(store: Store, application_id: str) -> Caller:
    """The master key, acting for an application. Raises Refusal(NOT_FOUND) when there is no such one."""
    known = b"master:" + application_id.encode("utf-8", "surrogatepass")[:255]
    cache = _cache(store)
    found = cache.get(known)
    if found is not None:
        return found
    if application_id == MASTER:
        store.aside(ensure_master, store)
    application = store.aside(store.applications.get, application_id)
    caller = Caller(
        application_id=application.id,
        key_id="master",
        scopes=frozenset(ALL_SCOPES),
        settings=application.settings,
        name=application.name,
        master=True,
    )
    cache.put(known, caller, CACHE_S)
    return caller


class _Cache:
    """Callers by digest, each for at most ``CACHE_S``. Nothing is kept of keys that are nobody's."""

    def __init__(self) -> None:
        self._callers: dict[bytes, tuple[float, Caller]] = {}
        self._lock = threading.Lock()

    def get(self, known: bytes) -> Caller | None:
        found = self._callers.get(known)
        return found[1] if found is not None and time.monotonic() < found[0] else None

    def put(self, known: bytes, caller: Caller, seconds: float) -> None:
        with self._lock:
            if len(self._callers) >= CACHE_MOST:
                now = time.monotonic()
                self._callers = {one: entry for one, entry in self._callers.items() if entry[0] > now}
                if len(self._callers) >= CACHE_MOST:
                    self._callers.clear()
            self._callers[known] = (time.monotonic() + seconds, caller)

    def forget(self, application_id: str) -> None:
        with self._lock:
            self._callers = {
                one: entry for one, entry in self._callers.items() if entry[1].application_id != application_id
            }


_caches: "weakref.WeakKeyDictionary[Store, _Cache]" = weakref.WeakKeyDictionary()


def _cache(store: Store) -> _Cache:
    found = _caches.get(store)
    if found is None:
        found = _caches.setdefault(store, _Cache())
    return found
