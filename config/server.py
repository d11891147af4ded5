"""How the API is served: granian (WSGI) with enough threads for every request that waits."""

from typing import Any

from config.settings import Settings

SPARE_THREADS = 32
"""Threads beside those that long polls and streams may hold: a storm of polls never starves submits."""


def granian_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of ``granian.Granian`` (beside the target) that settle the server.

    One thread per request in progress; ``backpressure`` (requests accepted at a time) equals it, so
    that an accepted request always finds a thread. A process that dies is started again.
    """
    threads = settings.max_waiters + SPARE_THREADS
    return {
        "address": settings.host,
        "port": settings.port,
        "interface": "wsgi",
        "workers": settings.api_processes,
        "blocking_threads": threads,
        "blocking_threads_idle_timeout": 30,
        "backpressure": threads,
        "backlog": max(1024, threads * settings.api_processes),
        "http": "1",
        "websockets": False,
        "respawn_failed_workers": True,
        "workers_kill_timeout": settings.drain_seconds,
        "log_access": False,
        "process_name": "mech-queue-api",
    }
