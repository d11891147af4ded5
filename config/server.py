"""How the API is served: granian (WSGI) with enough threads for every request that waits."""

import logging
from typing import Any

from config.settings import Settings

SPARE_THREADS = 32
"""Threads beside those that long polls and streams may hold: a storm of polls never starves submits."""


class NotAboutThreads(logging.Filter):
    """Drops granian's warning about many threads: ours wait nearly all of the time, on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for that warning."""
        return "Python threads" not in record.getMessage()


LOGGERS: dict[str, Any] = {
    "filters": {"not_about_threads": {"()": "config.server.NotAboutThreads"}},
    "loggers": {"_granian": {"propagate": True, "filters": ["not_about_threads"]}},
}
"""granian's lines go the way of all others (config/logging.py)."""


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
        "runtime_mode": "st",  # one thread reads and writes all sockets: fewer changes of threads per request
        "websockets": False,
        "respawn_failed_workers": True,
        "workers_kill_timeout": settings.drain_seconds,
        "log_access": False,
        "log_level": "warning" if settings.log_level == "info" else settings.log_level,
        "log_dictconfig": LOGGERS,
    }
