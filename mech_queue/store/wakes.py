"""What the scripts call out: "there is startable work in this queue", "this job has ended"."""

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import redis

from mech_queue.store import keys
from mech_queue.store.packing import unpack
from mech_queue.store.wire import Wire, pack

if TYPE_CHECKING:
    from mech_queue.store.store import Store

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # between tries to reach the store again
ANSWER_WITHIN_S = 5  # a connection that answers no ping for longer was forgotten on its way


class Wakes:
    """One thread of a process listens at the store for everybody in it.

    ``heard(kind, application_id, name)``: kind ``q`` with a queue's name, ``j`` with a job's 16 bytes.
    ``reconnected()``: what was called meanwhile is lost, so everybody has to look again.
    """

    def __init__(
        self, store: "Store", heard: Callable[[str, str, bytes], None], reconnected: Callable[[], None]
    ) -> None:
        self._nodes = store.nodes
        self._heard = heard
        self._reconnected = reconnected
        self._stop = threading.Event()
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-wakes", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns at once (``listening`` is set when the store is reached)."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, within a second or so."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set():
            try:
                servers = self._nodes.primaries()  # any: what is called out at one node reaches all
                with closing(Wire(servers[tries % len(servers)].connection_pool)) as wire:
                    self._listen(wire)
            except (redis.exceptions.RedisError, OSError):
                tries += 1
                self.listening.clear()
                self._stop.wait(PAUSE_S)

    def _listen(self, wire: Wire) -> None:
        wire.patience_s = 1.0
        wire.send(pack("SUBSCRIBE", *(keys.wake_channel(shard) for shard in range(keys.SHARDS))))
        confirmed, quiet_s = 0, 0
        while not self._stop.is_set():
            try:
                answer = wire.answer()
            except redis.exceptions.TimeoutError:
                quiet_s += 1
                if quiet_s > ANSWER_WITHIN_S:
                    raise
                wire.send(pack("PING"))
                continue
            if isinstance(answer, redis.exceptions.ResponseError):  # the store is loading, say: later it will listen
                raise answer
            quiet_s = 0
            kind, *_, said = answer
            if kind == b"message":
                self._hear(said)
            elif kind == b"subscribe":
                confirmed += 1
                if confirmed == keys.SHARDS:
                    self.listening.set()
                    self._reconnected()

    def _hear(self, said: bytes) -> None:
        try:
            application, called = unpack(said)
            heard = [(chr(one[0]), application.decode(), one[1:]) for one in called]
        except (
            ValueError,
            TypeError,
            AttributeError,
            IndexError,
        ):  # anybody may speak on a channel
            log.warning("not understood on a channel of wake-ups: %r", said[:100])
            return
        for kind, application_id, name in heard:
            self._heard(kind, application_id, name)
