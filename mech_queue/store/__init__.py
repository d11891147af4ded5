"""The only speaker of Redis: every change of state is one Lua script (``lua/``)."""

from mech_queue.store.store import Store

__all__ = ["Store"]
