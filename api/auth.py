"""Who asks: API keys, the master key, scopes. Free of any framework (the hot lane uses it directly)."""

import hmac
from typing import TYPE_CHECKING, Any

from mech_queue.model.application import MASTER, Caller, Scope
from mech_queue.model.errors import Code, Refusal
from mech_queue.services import applications

if TYPE_CHECKING:
    from api.runtime import Runtime


def key_of(environ: dict[str, Any]) -> str:
    """The key as given: ``x-api-key``, or ``Authorization: Bearer``; empty when there is none."""
    key = environ.get("HTTP_X_API_KEY")
    if key:
        return str(key)
    kind, _, key = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def authenticate(runtime: "Runtime", environ: dict[str, Any]) -> Caller | None:
    """The caller of a request, None without a valid key.

    Raises Refusal when a key that is not the master key comes with X-Application-Id (403), when the
    master key names an application that does not exist (404), or when the store cannot be asked (503).
    """
    key = key_of(environ)
    if not key:
        return None
    wanted = environ.get("HTTP_X_APPLICATION_ID")
    master_key = runtime.settings.master_api_key
    if master_key and hmac.compare_digest(key.encode("utf-8", "replace"), master_key.encode()):
        return applications.master_caller(runtime.store, wanted or MASTER)
    caller = applications.authenticate(runtime.store, key)
    if caller is not None and wanted:
        raise Refusal(
            Code.FORBIDDEN,
            "X-Application-Id is for the master key only; this key always acts for its own application.",
        )
    return caller


def unauthenticated() -> Refusal:
    """The 401."""
    return Refusal(
        Code.UNAUTHENTICATED,
        "No API key, or none that is valid now. Send one as the header x-api-key, or as Authorization: Bearer <key>.",
    )


def demand(caller: Caller | None, scope: Scope) -> Caller:
    """The caller, if its key may do this; raises UNAUTHENTICATED or FORBIDDEN."""
    if caller is None:
        raise unauthenticated()
    if not caller.master and scope not in caller.scopes:
        raise Refusal(
            Code.FORBIDDEN,
            f"This key lacks the scope {scope}; it has: {', '.join(sorted(caller.scopes)) or 'none'}.",
            {"required": scope.value},
        )
    return caller


def demand_master(caller: Caller | None) -> Caller:
    """The caller, if it came with the master key."""
    if caller is None:
        raise unauthenticated()
    if not caller.master:
        raise Refusal(Code.FORBIDDEN, "Only the master key (MASTER_API_KEY) may manage applications.")
    return caller


def demand_queue(caller: Caller, queue: str) -> None:
    """Refuse a queue that the application's settings do not allow."""
    if not caller.settings.allows(queue):
        raise Refusal(
            Code.QUEUE_NOT_ALLOWED,
            f"This application may not use the queue {queue}; its settings allow: "
            f"{', '.join(caller.settings.allowed_queues[:20])}.",
            {"queue": queue},
        )
