"""What the scripts call out: "there is startable work in this queue", "this job has ended"."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import redis

from mech_queue.store import keys

if TYPE_CHECKING:
    from mech_queue.store.store import Store

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
        self._client: Any = store.blocking_client()
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
        self._client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            pubsub: Any = self._client.pubsub(ignore_subscribe_messages=False)
            try:
                pubsub.subscribe(*(keys.wake_channel(shard) for shard in range(keys.SHARDS)))
                self._listen(pubsub)
            except (redis.exceptions.RedisError, OSError):
                self.listening.clear()
                self._stop.wait(PAUSE_S)
            finally:
                pubsub.close()

    def _listen(self, pubsub: Any) -> None:
        confirmed, quiet_s = 0, 0
        while not self._stop.is_set():
            message = pubsub.get_message(timeout=1.0)
            quiet_s = quiet_s + 1 if message is None else 0
            if message is None:
                if quiet_s > ANSWER_WITHIN_S:
                    raise redis.exceptions.ConnectionError("nothing comes any more")
                pubsub.ping()
                continue
            if message["type"] == "subscribe":
                confirmed += 1
                if confirmed == keys.SHARDS:
                    self.listening.set()
                    self._reconnected()
            elif message["type"] == "message":
                place, _, name = message["data"].partition(b"\0")
                self._heard(chr(place[0]), place[1:].decode(), name)
