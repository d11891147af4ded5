"""What one API process has: settings, store, limiter, waiters, metrics. Made once by ``create_app``."""

import time
from dataclasses import dataclass, field

from api.health import Probe
from api.metrics import HttpMetrics
from api.waiting import Waiters
from config.settings import Settings
from mech_queue.model.submission import Defaults
from mech_queue.services.rates import Rates
from mech_queue.store import Store


@dataclass(slots=True)
class Runtime:
    """Reached by the Flask routes through ``api.context``, by the hot lane directly."""

    settings: Settings
    store: Store
    rates: Rates
    metrics: HttpMetrics
    waiters: Waiters
    defaults: Defaults
    probe: Probe
    started_at: float = field(default_factory=time.monotonic)
