"""Celery options of the service's own stages (webhooks, subscriptions) and of Flower's view of them.

A message is a wake-up and holds nothing: it is acknowledged early, may be lost or doubled, and no
result is kept. Delays and retries are the store's, so neither countdowns nor a result backend exist.
"""

import ssl
from typing import Any

from config.settings import Settings

BROKER_TIMEOUT_S = 20
"""A broker connection that is silent for longer is taken for dead (Celery's own default waits for ever)."""

SILENCE_S = 5
"""The same with Redis, where each blocking read ends after a second."""


def broker_url(settings: Settings) -> str:
    """The broker's address as Celery spells it: a unix socket is ``redis+socket://`` there."""
    url = settings.broker_url
    return "redis+socket://" + url.removeprefix("unix://") if url.startswith("unix://") else url


def options(settings: Settings) -> dict[str, Any]:
    """The configuration of the Celery application in ``tasks.app``."""
    url = broker_url(settings)
    chosen: dict[str, Any] = {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "worker_hijack_root_logger": False,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
    }
    if url.startswith(("redis", "rediss")):
        chosen["worker_disable_prefetch"] = True
        chosen["broker_transport_options"] = {
            "priority_steps": [0],
            "socket_connect_timeout": 5,
            "socket_timeout": SILENCE_S,
            "socket_keepalive": True,
            "health_check_interval": SILENCE_S,
        }
    if url.startswith("amqp"):
        chosen["broker_heartbeat"] = BROKER_TIMEOUT_S
        chosen["broker_transport_options"] = {"confirm_publish": True}
    if url.startswith("amqps"):
        chosen["broker_use_ssl"] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    if url.startswith("rediss"):
        chosen["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return chosen
