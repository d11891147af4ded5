"""What one stage's process has: the store and the sender of webhooks, made once at its start."""

import logging
import os
import signal
import sys

from config.settings import Settings
from mech_queue.celery.publish import Publisher
from mech_queue.model import address
from mech_queue.model.errors import Refusal, StoreStopped
from mech_queue.outbound import Sender
from mech_queue.store import Store
from mech_queue.store.deliveries import Slots
from tasks import wakeups

log = logging.getLogger(__name__)

RETRY = {
    "autoretry_for": (Refusal,),
    "retry_backoff": 1,
    "retry_backoff_max": 60,
    "retry_jitter": True,
    "max_retries": 6,
    "ignore_result": True,
}
"""Celery's retry serves a stage's own trouble (the store is away), at most a minute later. What a receiver
does is never a Celery retry: those waits are due times in the store."""


class Process:
    """The things of this process."""

    store: Store
    sender: Sender
    publisher: Publisher | None


def start(settings: Settings) -> None:
    """Open everything. Exits with 1 when the store refuses this release."""
    policy = address.allow(settings.webhook_allowed_cidrs)
    Process.store = Store.open(settings.redis_url)
    Process.store.secrets_key = settings.secrets_key or None
    Process.store.deliveries.slots = Slots(settings.endpoint_slots, settings.application_slots)
    Process.sender = Sender(
        policy,
        total_s=settings.webhook_timeout_seconds,
        ca_file=settings.webhook_ca_file or None,
        proxy=settings.webhook_proxy_url or None,
    )
    Process.publisher = wakeups.publish(Process.store, settings)
    try:
        Process.store.greet(initialise=True)
    except StoreStopped as stopped:
        print(f"mech-queue cannot start: {stopped}", file=sys.stderr)
        raise SystemExit(1) from None
    except Refusal as refusal:  # away: Celery waits for it, too, and every wake-up asks again
        log.warning("store is away: %s", refusal.message)


def stop() -> None:
    """Close everything."""
    Process.sender.close()
    if Process.publisher:
        Process.publisher.close()
    Process.store.close()


def arrived(stage: str, shard: int) -> None:
    """A wake-up is here: another broker than the store has one less."""
    if Process.publisher:
        Process.publisher.arrived(f"{stage}.{shard:02d}")


def refused(stopped: StoreStopped) -> None:
    """The running process does not fit the store any more: stop taking wake-ups that newer ones can serve."""
    log.critical("stopping: %s", stopped)
    os.kill(os.getpid(), signal.SIGTERM)
