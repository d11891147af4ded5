"""The command line of each role, in one place: the supervisor, the Procfile and the image run the same."""

import os
import sys

from config.settings import Settings
from mech_queue.store.keys import SHARDS

FLOWER = ["-m", "celery", "-A", "tasks.app", "--quiet", "flower", "--conf=config/flower.py"]

ROLES: dict[str, list[str]] = {
    "all": ["-m", "workers.dev"],
    "api": ["-m", "api"],
    "webhooks": ["-m", "workers.stage", "webhooks"],
    "subscriptions": ["-m", "workers.stage", "subscriptions"],
    "scheduler": ["-m", "workers.scheduler"],
    "metrics": ["-m", "workers.metrics"],
    "flower": FLOWER,
}


def role(name: str) -> list[str]:
    """The command that runs one role, with this interpreter."""
    return [sys.executable, *ROLES[name]]


def celery_worker(stage: str, settings: Settings) -> list[str]:
    """The Celery worker of a stage.

    Threads, because its work is waiting (for receivers, for the store). No gossip and no mingle:
    the workers need not know each other. Events on, for Flower.
    """
    threads = settings.webhook_concurrency if stage == "webhooks" else settings.subscription_concurrency
    queues = ",".join(f"{stage}.{shard:02d}" for shard in range(SHARDS))
    options = ["-P", "threads", "-c", str(threads), "-Q", queues, "-n", f"{stage}-{os.getpid()}@%h"]
    options += ["--without-gossip", "--without-mingle", "-E", "--loglevel", settings.log_level]
    return [sys.executable, "-m", "celery", "-A", "tasks.app", "--quiet", "worker", *options]
