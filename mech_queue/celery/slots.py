"""Slots that become free: given back without deep recursion (prefork), and noticed at once (threads)."""

from typing import Any


class SlotReleaser:
    """Gives prefork slots back. ``LaxBoundedSemaphore.release`` calls the next waiter inside itself, so a
    few hundred empty wake-ups would overflow the stack; and ``hub.call_soon`` from a ready callback waits
    for the next poll, up to two seconds. Hence a trampoline."""

    def __init__(self) -> None:
        self._owed = 0
        self._busy = False

    def release(self, controller: Any) -> None:
        """One slot of ``controller`` is free."""
        release = getattr(controller, "_quick_release", None)
        if release is None:
            return
        self._owed += 1
        if self._busy:
            return
        self._busy = True
        try:
            while self._owed:
                self._owed -= 1
                release()
        finally:
            self._busy = False


def wake_loop_at_free_slots(pool: Any, consumer: Any) -> None:
    """Threads: the main loop takes no more messages than there are slots, and hears of a free one only when it turns,
    up to a second later. Under prefork a result wakes it, under solo it runs the body itself."""
    if getattr(pool, "executor", None) is None or "on_apply" in vars(pool):
        return
    apply = pool.on_apply

    def on_apply(*args: Any, **options: Any) -> Any:
        result = apply(*args, **options)
        result.f.add_done_callback(lambda _: consumer.hub and consumer.hub.call_soon(_turn))
        return result

    pool.on_apply = on_apply


def _turn() -> None:
    """That the loop turns is all."""
