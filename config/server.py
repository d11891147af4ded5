"""How the API is served: granian (ASGI), one event loop per process, and threads for what waits in Flask."""

import resource
from typing import Any

from config.settings import Settings

SPARE_THREADS = 32
"""Threads beside those that streams may hold: a storm of streams never starves other requests of Flask."""

CONNECTIONS = 10_000
"""Open connections per process; idle ones cost little, and granian closes them after 30 s."""

OTHER_FILES = 500
"""Descriptors left for connections to the store and the rest."""

LOGGERS: dict[str, Any] = {"loggers": {"_granian": {"propagate": True}}}
"""granian's lines go the way of all others (config/logging.py)."""


def allowed_connections() -> int:
    """``CONNECTIONS``, or as many as the system lets a process open; asks for the most it gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, min(CONNECTIONS, most - OTHER_FILES))


def granian_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of ``granian.Granian`` (beside the target) that settle the server.

    ``backpressure`` are the connections accepted at a time. A process that dies is started again.
    """
    connections = allowed_connections()
    return {
        "address": settings.host,
        "port": settings.port,
        "interface": "asgi",
        "workers": settings.api_processes,
        "backpressure": connections,
        "backlog": max(1024, connections * settings.api_processes),
        "http": "1",
        "runtime_mode": "st",  # one thread reads and writes all sockets: fewer changes of threads per request
        "websockets": False,
        "respawn_failed_workers": True,
        "workers_kill_timeout": settings.drain_seconds,
        "log_access": False,
        "log_level": "warning" if settings.log_level == "info" else settings.log_level,
        "log_dictconfig": LOGGERS,
    }
