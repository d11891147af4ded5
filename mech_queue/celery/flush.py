"""Prefork: what the pool forgets when the broker connection closes, and what it must not.

On a reconnect, and on every warm shutdown, Celery's pool discards each request that no child has accepted
yet, trusting the broker to deliver its message again. Our wake-up is acknowledged at the claim. So a job
whose bytes a child has already received must stay known: its body runs, and its result has a taker. (With
short jobs nearly every shutdown hits one; unknown, it would hold its lease, and the child would wait half
a minute for somebody to read its result.) Jobs not sent yet are discarded all right and given back.
"""

from typing import Any

from mech_queue.celery.running import RunningJobs

_KEEPING = "_mech_queue_keeping"


def keep_sent_jobs(pool: Any, running: RunningJobs) -> None:
    """Make ``pool.flush`` spare jobs that a child has; does nothing for other pools or a second time."""
    flush = getattr(pool, "flush", None)
    if not pool.uses_semaphore or flush is None or getattr(pool, _KEEPING, False):
        return
    setattr(pool, _KEEPING, True)

    def flush_but_keep_sent() -> None:
        ours = {request.id for request in running.all()}
        sent = [
            result
            for result in _known(pool)
            if not result._accepted and result._write_to is not None and result.correlation_id in ours
        ]
        for result in sent:  # the flush spares what is accepted
            result._accepted = True
        try:
            flush()
        finally:
            for result in sent:
                result._accepted = False

    pool.flush = flush_but_keep_sent


def ids_in_pool(pool: Any) -> set[str]:
    """Ids of the requests whose end the pool will still tell."""
    return {str(result.correlation_id) for result in _known(pool)}


def count_running_slots(pool: Any, semaphore: Any) -> None:
    """After a reconnect Celery counts every slot as free, also those whose bodies still run. A job claimed
    for such a slot would wait for its child, under a renewed lease, behind a body of any length."""
    if pool.uses_semaphore and semaphore is not None:
        semaphore.value = max(0, min(semaphore.value, semaphore.initial_value - len(_known(pool))))


def _known(pool: Any) -> list[Any]:
    return list(getattr(getattr(pool, "_pool", None), "_cache", {}).values())
