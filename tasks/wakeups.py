"""Wake-ups of the service's own processes over BROKER_URL, where that is another server than the store."""

from typing import TYPE_CHECKING

from config.celery import options
from config.settings import Settings
from mech_queue.store import Store

if TYPE_CHECKING:
    from kombu.connection import Connection

    from mech_queue.celery.publish import Publisher

CONNECT_TIMEOUT_S = 4


def elsewhere(settings: Settings) -> bool:
    """Whether another broker than the store carries the wake-ups."""
    return settings.broker_url != settings.redis_url


def publish(store: Store, settings: Settings) -> "Publisher | None":
    """From now on send what the scripts of ``store`` ask for; None where they push it themselves.

    Nothing is connected here, and no later call waits for the broker.
    """
    if not elsewhere(settings):
        return None
    from mech_queue.celery.publish import Publisher  # Celery: some 30 MB that the API does not need otherwise

    return Publisher(store, lambda: connection(settings))


def connection(settings: Settings) -> "Connection":
    """To BROKER_URL, connected at its first use, as the stages' workers connect."""
    from kombu.connection import Connection

    chosen = options(settings)
    return Connection(  # type: ignore[no-untyped-call]
        chosen["broker_url"],
        connect_timeout=CONNECT_TIMEOUT_S,
        ssl=chosen.get("broker_use_ssl"),
        transport_options=chosen.get("broker_transport_options"),
    )
