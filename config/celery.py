"""Celery options of the service's own stages (webhooks, subscriptions) and of Flower's view of them.

A message is a wake-up and holds nothing: it is acknowledged early, may be lost or doubled, and no
result is kept. Delays and retries are the store's, so neither countdowns nor a result backend exist.
"""

import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

from config.settings import Settings

BROKER_TIMEOUT_S = 20
"""A broker connection that is silent for longer is taken for dead (Celery's own default waits for ever)."""

SILENCE_S = 5
"""The same with Redis, where each blocking read ends after a second."""


def broker_url(settings: Settings) -> str:
    """The broker's address as Celery spells it.

    A unix socket is ``redis+socket://`` there, Sentinels are addresses of their own, with ``;`` between.
    """
    url = settings.broker_url
    parts = urlsplit(url)
    if not parts.scheme.endswith("+sentinel"):
        return "redis+socket://" + url.removeprefix("unix://") if parts.scheme == "unix" else url
    login, at, hosts = parts.netloc.rpartition("@")
    database = parts.path.strip("/").partition("/")[2] or "0"
    ports = (host if urlsplit(f"//{host}").port else f"{host}:26379" for host in hosts.split(","))
    return ";".join(f"sentinel://{login}{at}{host}/{database}" for host in ports)


def _of_sentinels(settings: Settings) -> dict[str, Any]:
    """What Celery must know besides: the primary's name, and the login of the Sentinels."""
    parts = urlsplit(settings.broker_url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    known: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}
    known |= {name: query[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in query}
    if parts.scheme.startswith("rediss"):
        known |= {"ssl": True, "ssl_cert_reqs": "required"}
    return {"master_name": parts.path.strip("/").partition("/")[0], "sentinel_kwargs": known}


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
        "worker_cancel_long_running_tasks_on_connection_loss": True,  # there are none; Celery warns where it is not set
        "worker_prefetch_multiplier": 1,
    }
    if url.startswith(("redis", "sentinel")):
        chosen["worker_consumer"] = "mech_queue.celery.reconnect:Consumer"
        chosen["worker_disable_prefetch"] = True
        chosen["broker_channel_error_retry"] = True  # "not enough replicas", "I am loading": else the worker ends
        chosen["broker_transport_options"] = {
            "priority_steps": [0],
            "socket_connect_timeout": 5,
            "socket_timeout": SILENCE_S,
            "socket_keepalive": True,
            "health_check_interval": SILENCE_S,
            **(_of_sentinels(settings) if url.startswith("sentinel") else {}),
        }
    if url.startswith("amqp"):
        chosen["broker_heartbeat"] = BROKER_TIMEOUT_S
        chosen["broker_transport_options"] = {"confirm_publish": True}
    if url.startswith("amqps"):
        chosen["broker_use_ssl"] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    if settings.broker_url.startswith("rediss"):
        chosen["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return chosen
