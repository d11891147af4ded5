"""Stage ``webhooks``: deliveries are sent."""

from mech_queue.model.errors import StoreStopped
from mech_queue.services import deliveries
from tasks import process
from tasks.app import app


@app.task(name="mech_queue.deliver", **process.RETRY)
def deliver(shard: int) -> None:
    """Send what may be sent in a shard, one after the other, for about a second."""
    process.arrived("webhooks", shard)
    try:
        deliveries.deliver(process.Process.store, process.Process.sender, shard)
    except StoreStopped as stopped:
        process.refused(stopped)
