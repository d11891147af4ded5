"""Rotating SECRETS_KEY: after a reseal the old key may go."""

import pytest

from mech_queue.model.application import MASTER
from mech_queue.model.secretbox import SecretsKeyError
from mech_queue.services import applications, secrets, subscriptions

KEY_1, KEY_2 = "kO9g2wPlvCm0fzlmqGuW8PSm1nJ-hUBTOAJqEAcuGJ8=", "2mS0sbBgzH9u9cxwWn6jPZEwQ2PQmR0wRFLE2bHOWSI="
HOOK = {"name": "a", "endpoint": "https://example.com", "events": ["*"], "headers": {"X-Token": "canary"}}


def filled(store):
    """Two applications beside the built-in one, each with a subscription; what each signs with."""
    applications.ensure_master(store)
    made = [applications.create(store, f"app {n}") for n in range(2)]
    hooks = [subscriptions.create(store, one.application.id, HOOK) for one in made]
    return made, hooks


def signing(store, made, hooks):
    """Everything that is sealed, opened."""
    return [
        *(store.applications.secrets(one.application.id) for one in made),
        *(
            subscriptions.receiver(
                store, subscriptions.get(store, one.subscription.application_id, one.subscription.id)
            )
            for one in hooks
        ),
        store.applications.secrets(MASTER),
    ]


@pytest.mark.parametrize("first", [None, KEY_1])
def test_after_a_reseal_only_the_new_key_is_needed(store, first):
    """``None``: what was stored before there was a key is encrypted now."""
    store.secrets_key = first
    made, hooks = filled(store)
    versions = [subscriptions.get(store, one.subscription.application_id, one.subscription.id) for one in hooks]
    before = [getattr(one, "secrets", one) for one in signing(store, made, hooks)]

    store.secrets_key = KEY_2 if first is None else f"{KEY_2},{first}"
    done = secrets.reseal(store)
    again = secrets.reseal(store)

    store.secrets_key = KEY_2
    assert (done.rewritten, done.current) == (5, 0) and (again.rewritten, again.current) == (0, 5)
    assert [getattr(one, "secrets", one) for one in signing(store, made, hooks)] == before
    for one, was in zip(hooks, versions, strict=True):
        now = subscriptions.get(store, one.subscription.application_id, one.subscription.id)
        assert (now.spec, now.updated_ms, now.health) == (was.spec, was.updated_ms, was.health)
    assert not any(b"canary" in (store.redis.dump(key) or b"") for key in store.redis.scan_iter())


def test_a_reseal_without_the_old_key_says_so_and_changes_nothing(store):
    store.secrets_key = KEY_1
    made, hooks = filled(store)
    store.secrets_key = KEY_2
    with pytest.raises(SecretsKeyError):
        secrets.reseal(store)
    store.secrets_key = KEY_1
    assert len(signing(store, made, hooks)) == 5
