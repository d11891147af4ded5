"""Loads the Lua entry points, joins their includes and runs them.

One file per entry point in ``lua/``; ``--@include lib/x`` pulls in shared parts once each, in order. A
script gets: KEYS[1] the shard's prefix; ARGV the protocol number, the application id, the time (``0``:
the store's own; tests set it) and its arguments as one msgpack map. It answers ``{wake-ups, result}``,
or ``{'!', code, sentence}`` for a refusal.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import redis

from mech_queue.model.errors import Code, Refusal, StoreStopped
from mech_queue.model.event import LETTERS, ORDER
from mech_queue.model.job import TRANSITIONS
from mech_queue.model.problems import invalid
from mech_queue.store import wakeups
from mech_queue.store.connection import Lines, translated
from mech_queue.store.keys import shard_of, shard_prefix
from mech_queue.store.nodes import Nodes, follow
from mech_queue.store.packing import pack

if TYPE_CHECKING:
    from mech_queue.store.greenlets import Greenlets
    from mech_queue.store.loop_line import LoopLine

PROTOCOL = 1  # what this library speaks; a store says which range it takes
WINDOW = 32  # wake-ups that may wait per queue
_INCLUDE = re.compile(r"^--@include (\S+)\n", re.MULTILINE)
_DEFINITION = re.compile(
    r"^local function (\w+)\((?:[^\n]* end$|[^\n]*(?:\n[^\n]*)*?\nend$)"  # on one line, or up to `end` at its start
    r"|^local (\w+) = \{[^\n]*\}$",
    re.MULTILINE,
)
_STRING_OR_COMMENT = re.compile(r"\[==\[.*?\]==\]|'(?:[^'\\\n]|\\.)*'|--[^\n]*", re.DOTALL)
_NAME = re.compile(r"(?<![\w:])(?<!(?<!\.)\.)[A-Za-z_]\w*\b(?!\s*=[^=])")  # of a local, not of a member
_FLAGS = re.compile(r"^--@(allow-oom|no-writes)\n", re.MULTILINE)


@cache
def _source(name: str) -> str:
    return files("mech_queue.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def entry_points() -> list[str]:
    """The names of all scripts."""
    folder = files("mech_queue.store").joinpath("lua")
    return sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".lua"))


def _long_string(text: str) -> str:
    return f"[==[{text}]==]"


def constants(window: int) -> str:
    """What Python knows and Lua must not repeat, as Lua source."""
    allowed = [
        f"{action}={{{','.join(f'{before.letter}={_quoted(after)}' for before, after in table.items())}}}"
        for action, table in TRANSITIONS.items()
    ]
    events = [f"{event.value}={{'{event.letter}',{event.bit}}}" for event in ORDER]
    return (
        f"local PROTOCOL, WINDOW = {PROTOCOL}, {window}\n"
        f"local TRANSITIONS = {{{', '.join(allowed)}}}\n"
        f"local EVENTS = {{{', '.join(events)}}} -- {LETTERS}\n"
        f"local WAKE_UP = {_long_string(wakeups.template())}\n"
        f"local WAKE_FORMAT = {wakeups.FORMAT}\n"
    )


def _quoted(states: Any) -> str:
    return "'" + "".join(sorted(state.letter for state in states)) + "'"


@cache
def joined(name: str, window: int = WINDOW) -> str:
    """The whole text of a script as the server gets it."""
    seen: set[str] = set()

    def expand(text: str) -> str:
        def include(match: re.Match[str]) -> str:
            part = match.group(1)
            if part in seen:
                return ""
            seen.add(part)
            return expand(_source(part)) + "\n"

        return _INCLUDE.sub(include, text)

    source = _source(name)
    flags = ",".join(_FLAGS.findall(source))
    first = f"#!lua flags={flags}\n" if flags else "#!lua\n"
    first_part = "lib/envelope" if "no-writes" in flags else "lib/base"
    base = constants(window) + expand(f"--@include {first_part}\n")
    # in a function of their own, as Lua finds what lies outside of a function faster than what lies beside it
    rest = "return (function()\n" + expand(_FLAGS.sub("", source)) + "\nend)()\n"
    return first + needed(base + rest)


def needed(text: str) -> str:
    """The text without the functions and constants of its includes that nothing in it names.

    A script makes all its functions anew each time it runs, which for a short one costs more than its work.
    """
    shorter = _without_unused(text)
    return text if shorter == text else needed(shorter)


def _without_unused(text: str) -> str:
    everywhere = _names(text)

    def keep(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return found[0] if everywhere[name] > _names(found[0])[name] else ""

    return _DEFINITION.sub(keep, text)


def _names(text: str) -> Counter[str]:
    return Counter(_NAME.findall(_STRING_OR_COMMENT.sub("", text)))


class Scripts:
    """Runs entry points by their hash, so that old and new processes coexist on one store."""

    def __init__(self, nodes: Nodes, window: int = WINDOW, greenlets: "Greenlets | None" = None) -> None:
        self._nodes = nodes
        self._greenlets = greenlets
        self._lines: dict[redis.Redis, Lines | LoopLine] = {}
        self._window = window
        self._loaded: dict[str, tuple[str, str]] = {}
        self.clock: Callable[[], int] | None = None  # tests only: unix ms instead of the store's time
        self.publish: Callable[[list[list[Any]]], None] | None = None  # another broker's: (queue, need[, generation])

    def _script(self, name: str) -> tuple[str, str]:
        found = self._loaded.get(name)
        if found is None:
            text = joined(name, self._window)
            found = (hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text)
            self._loaded[name] = found
        return found

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
        sha, text = self._script(name)
        place = shard_prefix(shard_of(application_id) if shard is None else shard)
        now = self.clock() if self.clock else 0
        rest = (1, place, PROTOCOL, application_id, now, pack(args))

        def call(server: "redis.Redis") -> Any:
            lines = self._lines.get(server) or self._lines_to(server)
            return self._evaluate(lines.call_alone if alone else lines.call, sha, text, rest)

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

    @staticmethod
    def _evaluate(call: Callable[..., Any], sha: str, text: str, rest: tuple[Any, ...]) -> Any:
        try:
            return call("EVALSHA", sha, *rest)
        except redis.exceptions.NoScriptError:
            return call("EVAL", text, *rest)


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
