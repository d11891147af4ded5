"""Giving a prefork slot back without deep recursion."""

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
