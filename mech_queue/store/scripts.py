"""Runs the entry points of the store's Lua as its functions; a store that lacks one is given it.

A function gets: KEYS[1] the shard's prefix; ARGV the protocol number, the application id, the time (``0``: the store's
own; tests set it) and its arguments as one msgpack map. It answers ``{wake-ups, result}``, or ``{'!', code, sentence}``
for a refusal.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import redis

from mech_queue.model.errors import Code, Refusal, StoreStopped
from mech_queue.model.problems import invalid
from mech_queue.store.connection import Lines, translated
from mech_queue.store.keys import shard_of, shard_prefix
from mech_queue.store.library import PREFIX, PROTOCOL, WINDOW, Library, entry_points, library
from mech_queue.store.nodes import Nodes, follow
from mech_queue.store.packing import pack
from mech_queue.store.wire import FunctionMissing

if TYPE_CHECKING:
    from mech_queue.store.greenlets import Greenlets
    from mech_queue.store.loop_line import LoopLine


class Scripts:
    """Calls entry points."""

    def __init__(self, nodes: Nodes, window: int = WINDOW, greenlets: "Greenlets | None" = None) -> None:
        self._nodes = nodes
        self._greenlets = greenlets
        self._lines: dict[redis.Redis, Lines | LoopLine] = {}
        self._window = window
        self.clock: Callable[[], int] | None = None  # tests only: unix ms instead of the store's time
        self.publish: Callable[[list[list[Any]]], None] | None = None  # another broker's: (queue, need[, generation])

    def _library(self, name: str) -> Library:
        return library(name, self._window)

    def load(self) -> None:
        """Load into every primary what it lacks. Those of other releases go; where these still run, they load their own
        again. What a store does not take, for it is full, runs as a script meanwhile. Raises Refusal.
        """
        own = {one.name.encode(): one for one in map(self._library, entry_points())}
        with translated():
            for server in self._nodes.primaries():
                there = loaded(server)
                pipe = server.pipeline(transaction=False)
                for name in own.keys() - there:
                    pipe.function_load(own[name].text, replace=True)
                for name in there - own.keys():
                    pipe.function_delete(name.decode())
                pipe.execute(raise_on_error=False)  # another process may do the same

    def run(
        self,
        name: str,
        application_id: str,
        args: dict[str, Any],
        *,
        idempotent: bool = False,
        shard: int | None = None,
        alone: bool = False,
    ) -> Any:
        """Run one entry point and return its result.

        ``idempotent`` repeats it once after a lost connection or a timeout. ``shard`` is only for the
        pseudo-application ``~`` of a shard. ``alone``: on a connection of its own, since the answer may be
        large and nobody else shall wait for its transfer. Raises Refusal, or StoreStopped when the store refuses this
        library's protocol.
        """
        called = self._library(name)
        place = shard_prefix(shard_of(application_id) if shard is None else shard)
        now = self.clock() if self.clock else 0
        rest = (1, place, PROTOCOL, application_id, now, pack(args))

        def call(server: "redis.Redis") -> Any:
            lines = self._lines.get(server) or self._lines_to(server)
            return _called(lines.call_alone if alone else lines.call, called, rest)

        with translated():
            try:
                answer = follow(self._nodes, place, call)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                if not idempotent:
                    raise
                answer = follow(self._nodes, place, call)
        if answer[0] == b"!":
            raise refusal(answer)
        if answer[0] and self.publish:
            self.publish(answer[0])
        return answer[1]

    def close(self) -> None:
        """Close the idle connections."""
        for lines in list(self._lines.values()):
            lines.close()

    def _lines_to(self, server: "redis.Redis") -> "Lines | LoopLine":
        lines = Lines(server)
        if self._greenlets is None:
            return self._lines.setdefault(server, lines)
        from mech_queue.store import loop_line  # greenlet comes with the service, not with the library

        return self._lines.setdefault(server, loop_line.LoopLine(server, self._greenlets, lines))


def _called(call: Callable[..., Any], called: Library, rest: tuple[Any, ...]) -> Any:
    try:
        return call("FCALL", called.name, *rest)
    except FunctionMissing:
        with contextlib.suppress(redis.exceptions.OutOfMemoryError):
            call("FUNCTION", "LOAD", "REPLACE", called.text)
        return call("EVAL", called.script, *rest)


def loaded(server: "redis.Redis") -> set[bytes]:
    """The names of our libraries that a server has, of all releases."""
    rows: Any = server.function_list(PREFIX + "*")
    maps = (row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in rows)
    return {row[b"library_name"] for row in maps}


def refusal(answer: list[bytes]) -> Refusal:
    """``{'!', code, sentence}`` -> the Refusal to raise (or to return for one item of many).

    A sentence of INVALID begins with the path of the field that is wrong.
    """
    code, sentence = answer[1].decode(), answer[2].decode()
    if code == Code.INVALID:
        return invalid(*sentence.split(" ", 1))
    if code == "STORE_STOPPED":
        raise StoreStopped(sentence)
    retry_after = 1.0 if code == Code.QUEUE_FULL else None
    return Refusal(Code(code), sentence, retry_after=retry_after)
