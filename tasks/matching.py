"""Stage ``subscriptions``: events become deliveries."""

from mech_queue.model.errors import StoreStopped
from mech_queue.services import events
from tasks import process
from tasks.app import app


@app.task(name="mech_queue.match", **process.RETRY)
def match(shard: int) -> None:
    """Match what waits in a shard, for some 20 ms; what waits then has wake-ups of its own."""
    process.arrived("subscriptions", shard)
    try:
        events.match(process.Process.store, shard)
    except StoreStopped as stopped:
        process.refused(stopped)
