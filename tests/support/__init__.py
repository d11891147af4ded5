"""Helpers of the tests: everything real, everything on loopback."""

from tests.support.receiver import Answer, Received, Receiver
from tests.support.waiting import wait_until

__all__ = ["Answer", "Received", "Receiver", "wait_until"]
