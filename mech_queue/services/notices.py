"""Notices: an application hears that one of its subscriptions fails, before it is switched off, and when it is.

Whoever asked for ``subscription.failing`` or ``subscription.disabled`` gets a delivery like any other.
"""

import logging
import time

from mech_queue.model import backoff
from mech_queue.model.delivery import shown_url
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.ids import job_id_bytes
from mech_queue.model.rendering import Happening, notice_body
from mech_queue.model.subscription import Subscription
from mech_queue.model.times import iso_or_none
from mech_queue.store import Store, keys
from mech_queue.store.deliveries import NewDelivery

log = logging.getLogger(__name__)


def tell(store: Store, application_id: str, subscription_id: str, notice: str) -> int:
    """Tell the other subscriptions that asked for it; returns how many are told now. Raises Refusal (store away).

    Said again for the same trouble it tells nobody twice.
    """
    try:
        about = store.subscriptions.get(application_id, subscription_id)
    except Refusal as refusal:
        if refusal.code is Code.NOT_FOUND:
            return 0
        raise
    if about.spec.active is (notice == "subscription.disabled"):  # changed meanwhile
        return 0
    log.warning("%s: %s of %s", notice, subscription_id, application_id)
    new = [
        _notice(notice, about, one)
        for one in store.subscriptions.asking_for_notices(application_id)
        if one.id != about.id and one.spec.active and notice in one.spec.events
    ]
    return store.deliveries.create(keys.shard_of(application_id), new) if new else 0


def _notice(notice: str, about: Subscription, receiver: Subscription) -> NewDelivery:
    since_ms = about.health.failing_since_ms or 0
    happening = Happening(about.application_id, notice, 0, int(time.time() * 1000))
    body = notice_body(happening, (receiver.id, receiver.spec.name), _facts(about))
    return NewDelivery(
        application_id=about.application_id,
        event=notice,
        job_id="",
        sequence=0,
        at_ms=happening.at_ms,
        queue="",
        url=receiver.spec.endpoint,
        body=body,
        subscription_id=receiver.id,
        max_attempts=backoff.max_attempts(receiver.spec.retry),
        nonce=b"%s %d" % (job_id_bytes(about.id), since_ms),  # one for each time of trouble
    )


def _facts(about: Subscription) -> dict[str, object]:
    health = about.health
    return {
        "id": about.id,
        "name": about.spec.name,
        "endpoint": shown_url(about.spec.endpoint),
        "consecutiveFailures": health.failures,
        "failingSince": iso_or_none(health.failing_since_ms),
        "disablesAt": iso_or_none(health.disables_ms),
        "disabledReason": health.disabled_reason,
    }
