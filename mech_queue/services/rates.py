"""Rate limits: how many requests of one key in one window.

A process takes slices of a window's counter (1 % of the limit, at least 1) and serves from its
slice, so that most requests pay no round trip. While the counters cannot be reached, the process
goes on with what it knows: limits then hold per process.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mech_queue.store.rates import RateCounters, RatesUnavailable

SLICE_PARTS = 100
PAUSE_S = 1.0
"""After a failed call the counters are left alone for this long, so that a dead store costs little."""

MANY_WINDOWS = 10_000
"""Windows kept per process before those that are over are dropped."""


class Standing(NamedTuple):
    """Where a key stands after one more request. ``reset_s`` is unix time, ``retry_after_s`` a duration."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    retry_after_s: float


class Limiter(Protocol):
    """Counts requests. It never fails: when it cannot count exactly, it counts roughly."""

    def hit(self, identity: str, most: int, window_ms: int) -> Standing:
        """One more request of ``identity``, which may make ``most`` in each window of ``window_ms``."""


@dataclass(slots=True)
class _Window:
    most: int
    window_ms: int
    index: int
    left: int = 0  # of the slice this process holds
    taken: int = 0  # by all processes, as far as known
    taking: int = 0  # requests of this process that are at the counter
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ends_at_ms(self) -> int:
        return (self.index + 1) * self.window_ms


class Rates:
    """The limiter over the store's counters. ``now`` is unix time in seconds; ``aside`` as ``Store.aside``."""

    def __init__(
        self,
        counters: RateCounters,
        now: Callable[[], float] = time.time,
        aside: Callable[..., int] = lambda function, *args: function(*args),
    ) -> None:
        self._counters = counters
        self._now = now
        self._aside = aside
        self._windows: dict[str, _Window] = {}
        self._guard = threading.Lock()
        self._pause_until = 0.0

    def hit(self, identity: str, most: int, window_ms: int) -> Standing:
        """One more request of ``identity``; see ``Limiter``."""
        now_ms = int(self._now() * 1000)
        index = now_ms // window_ms
        window = self._windows.get(identity)
        if window is None or window.index != index or window.most != most or window.window_ms != window_ms:
            window = self._fresh(identity, most, window_ms, index)
        with window.lock:
            allowed = window.left > 0
            window.left -= allowed
        if not allowed and window.taken < most:
            allowed = self._take_slice(identity, window)
        return Standing(
            allowed,
            most,
            max(0, most - window.taken) + window.left,
            -(-window.ends_at_ms // 1000),
            max(0.0, (window.ends_at_ms - now_ms) / 1000),
        )

    def _fresh(self, identity: str, most: int, window_ms: int, index: int) -> _Window:
        with self._guard:
            window = self._windows.get(identity)
            wanted = (most, window_ms, index)
            if window is None or (window.most, window.window_ms, window.index) != wanted:
                if len(self._windows) >= MANY_WINDOWS:
                    self._drop_ended()
                window = self._windows[identity] = _Window(*wanted)
            return window

    def _drop_ended(self) -> None:
        now_ms = self._now() * 1000
        kept = {key: window for key, window in self._windows.items() if window.ends_at_ms > now_ms}
        self._windows = kept if len(kept) < MANY_WINDOWS else {}

    def _take_slice(self, identity: str, window: _Window) -> bool:
        """Take a slice, or, while another request is about it, for this request alone: whether there was any left.

        The window's lock is free meanwhile, since a request of an event loop gives way here.
        """
        with window.lock:
            amount = 1 if window.taking else max(1, window.most // SLICE_PARTS)
            window.taking += 1
        try:
            if time.monotonic() < self._pause_until:
                raise RatesUnavailable
            key = f"{identity}:{window.window_ms}:{window.index}"
            taken = self._aside(self._counters.take, key, amount, window.ends_at_ms)
        except RatesUnavailable:
            if time.monotonic() >= self._pause_until:
                self._pause_until = time.monotonic() + PAUSE_S
            with window.lock:
                taken = window.taken = window.taken + amount
        with window.lock:
            window.taking -= 1
            window.taken = max(window.taken, taken)
            window.left += max(0, min(amount, window.most - (taken - amount)))
            allowed = window.left > 0
            window.left -= allowed
        return allowed
