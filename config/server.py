"""How the API is served: granian (ASGI), one event loop per process, and threads for what waits in Flask."""

from typing import Any

from config.settings import Settings

SPARE_THREADS = 32
"""Threads beside those that long polls and streams may hold: a storm of polls never starves submits."""


LOGGERS: dict[str, Any] = {"loggers": {"_granian": {"propagate": True}}}
"""granian's lines go the way of all others (config/logging.py)."""


def granian_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of ``granian.Granian`` (beside the target) that settle the server.

    ``backpressure`` (requests accepted at a time) equals the number of threads, so that an accepted request always
    finds one. A process that dies is started again.
    """
    threads = settings.max_waiters + SPARE_THREADS
    return {
        "address": settings.host,
        "port": settings.port,
        "interface": "asgi",
        "workers": settings.api_processes,
        "backpressure": threads,
        "backlog": max(1024, threads * settings.api_processes),
        "http": "1",
        "runtime_mode": "st",  # one thread reads and writes all sockets: fewer changes of threads per request
        "websockets": False,
        "respawn_failed_workers": True,
        "workers_kill_timeout": settings.drain_seconds,
        "log_access": False,
        "log_level": "warning" if settings.log_level == "info" else settings.log_level,
        "log_dictconfig": LOGGERS,
    }
