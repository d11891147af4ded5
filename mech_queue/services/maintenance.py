"""The scheduler's work: moving what is due. Every step is a script, so any number of replicas may run it."""

from mech_queue.services import operations, schedules
from mech_queue.store import Store
from mech_queue.store.maintenance import STEP

ROUNDS = 20  # steps per application and tick: a flood of one application must not hold up the others


def tick(store: Store) -> int:
    """Move everything that is due in all shards, applications in turn; returns how many entries."""
    moved = 0
    waiting = store.maintenance.due()
    for _ in range(ROUNDS):
        again = []
        for shard, application_id in waiting:
            handled, due, steps = store.maintenance.run(shard, application_id)
            for kind, name in steps:
                if kind == "o":
                    operations.step(store, application_id, name)
            moved += handled + (schedules.run_due(store, application_id, [one.decode() for one in due]) if due else 0)
            if handled >= STEP:
                again.append((shard, application_id))
        waiting = again
        if not waiting:
            break
    return moved


def counts(store: Store) -> dict[str, int]:
    """Jobs per state over all applications."""
    return store.maintenance.totals()
