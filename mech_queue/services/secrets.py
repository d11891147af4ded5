"""SECRETS_KEY and what it encrypts: every stored secret rewritten under the first key."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mech_queue.model.application import MASTER
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.subscription import Subscription
from mech_queue.services.applications import until_unchanged
from mech_queue.store import Store

PAGE = 200


@dataclass(slots=True)
class Resealed:
    """How many stored records were rewritten, and how many were under the first key already."""

    rewritten: int = 0
    current: int = 0


def reseal(store: Store) -> Resealed:
    """Rewrite what an older key (or none) encrypted; then the older keys may leave SECRETS_KEY.

    It may be stopped and repeated, and may run beside everything else: each record is written only if nobody
    changed it meanwhile. Raises SecretsKeyError when no key in SECRETS_KEY opens a record, and Refusal.
    """
    done = Resealed()
    for application_id in _applications(store):
        _count(done, _reseal_application(store, application_id))
        for page in _pages(partial(store.subscriptions.page, application_id)):
            for one in page:
                _count(done, _reseal_subscription(store, one))
    return done


def _pages(read: Callable[[int, str | None], tuple[list[Any], str | None]]) -> Iterator[list[Any]]:
    cursor: str | None = None
    while True:
        page, cursor = read(PAGE, cursor)
        yield page
        if cursor is None:
            return


def _applications(store: Store) -> Iterator[str]:
    yield MASTER
    for page in _pages(store.applications.page):
        yield from (one.id for one in page)


def _count(done: Resealed, rewritten: bool) -> None:
    if rewritten:
        done.rewritten += 1
    else:
        done.current += 1


def _reseal_application(store: Store, application_id: str) -> bool:
    if store.applications.sealed_by_first_key(application_id):
        return False

    def attempt() -> bool:
        before = store.applications.get(application_id)
        return store.applications.change(before, secrets=store.applications.secrets(application_id))

    return _unless_gone(attempt)


def _reseal_subscription(store: Store, seen: Subscription) -> bool:
    if store.subscriptions.sealed_by_first_key(seen):
        return False

    def attempt() -> bool:
        found = store.subscriptions.get(seen.application_id, seen.id)
        return store.subscriptions.change(*store.subscriptions.unsealed(found))

    return _unless_gone(attempt)


def _unless_gone(attempt: Callable[[], bool]) -> bool:
    """False when somebody deleted it in between: then nothing is left to rewrite."""
    try:
        until_unchanged(attempt)
    except Refusal as refusal:
        if refusal.code is Code.NOT_FOUND:
            return False
        raise
    return True
