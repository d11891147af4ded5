"""Requests that wait: a hook that lets a long poll sleep until there is something to answer."""

from typing import Protocol


class Waiters(Protocol):
    """Where waiting requests sleep. ``timeout_s`` is in seconds; True: look again; False: time is up."""

    def full(self) -> bool:
        """True when as many requests wait as MAX_WAITERS allows: answer at once, with Retry-After."""

    def wait_for_work(self, application_id: str, queues: list[str], timeout_s: float) -> bool:
        """Until one of the queues may have a startable job."""

    def wait_for_end(self, application_id: str, job_id: str, timeout_s: float) -> bool:
        """Until the job may have ended."""


class NoWaiting:
    """Answers at once: every wait is over before it began."""

    def full(self) -> bool:
        """Never full, since nobody waits."""
        return False

    def wait_for_work(self, application_id: str, queues: list[str], timeout_s: float) -> bool:
        """Do not wait."""
        return False

    def wait_for_end(self, application_id: str, job_id: str, timeout_s: float) -> bool:
        """Do not wait."""
        return False
