"""Redis-client policy, in one place: time limits, no blind retries, errors in our words.

redis-py repeats a timed-out command ten times by default; a script that is not idempotent would run
again. So nothing is retried here: ``Scripts.run`` repeats what is declared idempotent, once.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from mech_queue.model.errors import Code, Refusal
from mech_queue.store.wire import Wire, pack

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 3.0  # far above the slowest script (some 10 ms), below the patience of an HTTP client
REPEAT_REASON_S = 10.0  # how often the log repeats why the store is away
MAX_CONNECTIONS = 1_000

_UNAVAILABLE = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "BUSY",
    "ASK",  # a slot that moves key by key: a script would find half of them
)
# of these redis-py takes the code out of the text
_AWAY = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
)


def connect(url: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> "redis.Redis":
    """A lazy, thread-safe and fork-safe client that answers in bytes."""
    client: redis.Redis = redis.Redis.from_url(url, **_policy(timeout_s))
    return client


def connect_by_sentinels(
    urls: Sequence[str], service: str, login: tuple[str | None, str | None], *, timeout_s: float = COMMAND_TIMEOUT_S
) -> "redis.Redis":
    """The same for whatever server the Sentinels at ``urls`` call the primary, asked for each new connection.

    Login, database and TLS in the addresses are the primary's; ``login`` is that of the Sentinels.
    """
    given: list[dict[str, Any]] = [parse_url(url) for url in urls]  # type: ignore[no-untyped-call]
    hosts = [(options.pop("host"), options.pop("port")) for options in given]
    options = given[0]
    tls = options.pop("connection_class", None) is not None
    secured = {name: value for name, value in options.items() if name.startswith("ssl")} | (
        {"ssl": True} if tls else {}
    )
    known = {"username": login[0], "password": login[1], **secured, **_policy(CONNECT_TIMEOUT_S)}
    sentinels: Any = Sentinel(hosts, sentinel_kwargs=known)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinels.master_for(
        service, **options, **_policy(timeout_s), **({"ssl": True} if tls else {})
    )
    return client


def _policy(timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(CONNECT_TIMEOUT_S, timeout_s),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": MAX_CONNECTIONS,
    }


class Lines:
    """Connections for scripts: a stack, so that the one used last is used next and there are as many as calls at once.

    Each is looked at before use (the server may have closed it meanwhile) and dropped after any trouble.
    """

    def __init__(self, client: "redis.Redis") -> None:
        self._pool: Any = client.connection_pool
        self._free: list[Wire] = []
        self._pid = os.getpid()

    def call(self, *command: Any) -> Any:
        """Send one command and read its answer; raises what redis-py raises, repeats nothing."""
        if self._pid != os.getpid():  # after a fork the sockets belong to the parent
            self._free, self._pid = [], os.getpid()
        wire = self._take()
        try:
            wire.send(pack(*command))
            answer = wire.answer()
        except BaseException:
            wire.close()
            raise
        self._free.append(wire)
        if isinstance(answer, redis.exceptions.ResponseError):
            raise answer
        return answer

    call_alone = call

    def _take(self) -> Wire:
        try:
            wire = self._free.pop()
        except IndexError:
            return Wire(self._pool)
        if wire.ended():
            wire.close()
            return Wire(self._pool)
        return wire

    def close(self) -> None:
        """Close what is idle."""
        while self._free:
            self._free.pop().close()


class _Reasons:
    """Says in the log why the store is away: each reason once in a while, since every call meets it."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def say(self, reason: str) -> None:
        now = time.monotonic()
        recent = {text: at for text, at in self._said.items() if now - at < REPEAT_REASON_S}
        if reason not in recent:
            log.warning("cannot use the store: %s", reason)
            self._said = recent | {reason: now}


_REASONS = _Reasons()


class _Translated:
    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or not isinstance(error, redis.exceptions.RedisError | OSError):
            return
        if isinstance(error, redis.exceptions.ResponseError):
            text = str(error)
            if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM" in text[:80] or "-OOM" in text:
                raise Refusal(Code.STORE_FULL, FULL, retry_after=5) from error
            refused = isinstance(error, redis.exceptions.NoPermissionError) or text.startswith("NOPERM")
            if refused or "ACL failure" in text[:80]:  # the second: of a command within a script
                _REASONS.say(f"its user may not do what this release needs: {text}")
                raise Refusal(Code.STORE_UNAVAILABLE, FORBIDDEN, retry_after=60) from error
            if not isinstance(error, _AWAY) and not text.startswith(_UNAVAILABLE):
                return
        _REASONS.say(str(error))
        raise Refusal(Code.STORE_UNAVAILABLE, UNAVAILABLE, retry_after=1) from error


_TRANSLATED = _Translated()


def translated() -> _Translated:
    """Turn what redis-py raises into refusals that name neither host nor Redis text."""
    return _TRANSLATED


UNAVAILABLE = "The store cannot be reached; nothing is known to have changed. Try again shortly."
FORBIDDEN = "The store forbids the service what it needs: its operator finds in the log which right is missing."
FULL = "The store is out of memory and takes no new work; finishing jobs still works. Try again later."


def read(client: Any, *command: Any) -> Any:
    """One plain command, with translated errors."""
    with translated():
        return client.execute_command(*command)
