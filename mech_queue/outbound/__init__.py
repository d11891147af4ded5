"""The only sender of webhooks: guarded at connect, bounded in time and memory, never raising."""

from mech_queue.outbound.sender import Sender

__all__ = ["Sender"]
