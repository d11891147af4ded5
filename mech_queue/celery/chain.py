"""How long one wake-up goes on serving jobs."""

import mmap
import time
from ctypes import c_double


class Chain:
    """Fetching a message is the dearest part of a short job, so a wake-up claims again and again. Without an end,
    ordinary tasks of the same worker and the other queues would starve: in each ``every_ms`` one wake-up of this
    worker ends, and its slot goes to the next message. Used by several threads and, in memory that they share, by
    the processes of a pool that are forked later; two that end at once harm nobody.
    """

    def __init__(self, every_ms: float) -> None:
        self._every_s = every_ms / 1000
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._ended = c_double.from_buffer(self._memory)
        self._ended.value = time.monotonic()

    @property
    def ended_at(self) -> float:
        """When the last wake-up ended, in monotonic seconds, which mean the same in all processes of a machine."""
        return self._ended.value

    def goes_on(self) -> bool:
        """May this wake-up claim once more? False at most once in ``every_ms``; with 0 always."""
        now = time.monotonic()
        if now < self.ended_at + self._every_s:
            return True
        self._ended.value = now
        return False
