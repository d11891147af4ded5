"""How long one wake-up goes on serving jobs."""

import time


class Chain:
    """Fetching a message is the dearest part of a short job, so a wake-up claims again and again. Without an end,
    ordinary tasks of the same worker and the other queues would starve: in each ``every_ms`` one wake-up of this
    worker ends, and its slot goes to the next message. Used by several threads; two that end at once harm nobody.
    """

    def __init__(self, every_ms: float) -> None:
        self._every_s = every_ms / 1000
        self._ended = 0.0

    @property
    def ends_at(self) -> float:
        """When the next wake-up ends, in monotonic seconds, which mean the same in the pool's processes."""
        return self._ended + self._every_s

    def goes_on(self) -> bool:
        """May this wake-up claim once more? False at most once in ``every_ms``; with 0 always."""
        now = time.monotonic()
        if now < self.ends_at:
            return True
        self._ended = now
        return False
