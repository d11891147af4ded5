"""What one API process has: settings, store, limiter, waiters, metrics. Made once by ``create_app``."""

import threading
import time
from dataclasses import dataclass, field

from api.health import Probe
from api.metrics import HttpMetrics
from config.settings import Settings
from mech_queue.services.rates import Limiter
from mech_queue.services.streams import Streams
from mech_queue.services.waiting import Waiters
from mech_queue.store import Store


@dataclass(slots=True)
class Runtime:
    """Reached by the Flask routes through ``api.context``, by the hot lane directly."""

    settings: Settings
    store: Store
    rates: Limiter
    metrics: HttpMetrics
    waiters: Waiters
    streams: Streams
    probe: Probe
    stopping: threading.Event = field(default_factory=threading.Event)
    started_at: float = field(default_factory=time.monotonic)
