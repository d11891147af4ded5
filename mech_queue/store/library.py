"""Joins the Lua files into functions of the store (``FUNCTION LOAD``).

One file per entry point in ``lua/``; ``--@include lib/x`` pulls in shared parts once each, in order. Each entry point
becomes a library with one function. What a file does at its top level, it does at each call, with variables that begin
anew; its functions, and locals in capitals with a literal value, are made once, when the library is loaded. A script
would make them at each call, which for a short one costs more than its work (ADR 0012).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from mech_queue.model.event import LETTERS, ORDER
from mech_queue.model.job import TRANSITIONS
from mech_queue.store import wakeups

PROTOCOL = 1  # what this library speaks; a store says which range it takes
WINDOW = 32  # wake-ups that may wait per queue
PREFIX = "mq_"
"""Of the names of all libraries."""

_NAME_HERE = "@library@"
_INCLUDE = re.compile(r"^--@include (\S+)\n", re.MULTILINE)
_FLAG = re.compile(r"^--@(allow-oom|no-writes)\n", re.MULTILINE)
_ITEM = re.compile(r"^(?!--|end\b|else|\s).*\n(?:(?:[ \t].*|end\b.*|else.*|\}.*|)\n)*", re.MULTILINE)
_FUNCTION = re.compile(r"(?:local )?function (\w+)")
_CONSTANT = re.compile(r"local ([A-Z]\w*(?:, [A-Z]\w*)*) = [\[{'\d]")
_LOCAL = re.compile(r"local (\w+(?:, \w+)*)( = )?")
_AROUND = re.compile(
    r"\A#!lua name=.*\nlocal KEYS, ARGV\n(?P<made_once>.*)^redis\.register_function\{.*flags = \{(?P<flags>.*)\},\n"
    r"callback = function\(keys, arguments\)\nKEYS, ARGV = keys, arguments\n(?P<steps>.*)^end\}\n\Z",
    re.DOTALL | re.MULTILINE,
)
_STRING_OR_COMMENT = re.compile(r"\[==\[.*?\]==\]|'(?:[^'\\\n]|\\.)*'|--[^\n]*", re.DOTALL)
_WORD = re.compile(r"(?<![\w:])(?<!(?<!\.)\.)[A-Za-z_]\w*\b(?!\s*=[^=])")  # that may name a local, not a member


@dataclass(frozen=True, slots=True)
class Library:
    """``name``: of the library and of its function, made from the text, so that old and new processes coexist.
    ``script``: the same for ``EVAL``, for a store that cannot take a library."""

    name: str
    text: str
    script: str


@dataclass(slots=True)
class _Part:
    """The top level of a file."""

    definitions: list["_Definition"] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Definition:
    """A function (a method: of the table ``name``), or constants (several in one line: ``names``)."""

    names: tuple[str, ...]
    text: str

    @property
    def uses(self) -> frozenset[str]:
        return _words(self.text)


def entry_points() -> list[str]:
    """The names of all."""
    folder = files("mech_queue.store").joinpath("lua")
    return sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".lua"))


@cache
def library(entry_point: str, window: int = WINDOW) -> Library:
    """What the store is to load for an entry point."""
    return named(entry_point, joined(entry_point, window))


def named(entry_point: str, text: str) -> Library:
    """A joined text under its name."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    name = f"{PREFIX}{entry_point}_{digest[:16]}"
    return Library(name, text.replace(_NAME_HERE, name), _AROUND.sub(_as_script, text))


def _as_script(library: re.Match[str]) -> str:
    flags = library["flags"].replace("'", "")
    return f"#!lua{flags and f' flags={flags}'}\n{library['made_once']}{library['steps']}"


def joined(entry_point: str, window: int = WINDOW) -> str:
    """The text of a library that has no name yet."""
    flags = _FLAG.findall(_source(entry_point))
    first = "lib/envelope" if "no-writes" in flags else "lib/base"
    parts = [_part(constants(window)), *(_part(_source(name)) for name in _order([first, entry_point]))]
    variables = [name for part in parts for name in part.variables]
    steps = [step for part in parts for step in part.steps]
    definitions = list(_needed([one for part in parts for one in part.definitions], steps))
    _check(entry_point, variables, definitions)
    return "\n".join(
        [
            f"#!lua name={_NAME_HERE}",
            "local KEYS, ARGV",
            f"local {', '.join(variables)}",
            *(one.text for one in definitions),
            f"redis.register_function{{function_name = '{_NAME_HERE}', flags = {{{', '.join(map(repr, flags))}}},",
            "callback = function(keys, arguments)",
            "KEYS, ARGV = keys, arguments",
            *steps,
            "end}\n",
        ]
    )


def constants(window: int) -> str:
    """What Python knows and Lua must not repeat, as Lua source."""
    allowed = [
        f"{action}={{{','.join(f'{before.letter}={_quoted(after)}' for before, after in table.items())}}}"
        for action, table in TRANSITIONS.items()
    ]
    events = [f"{event.value}={{'{event.letter}',{event.bit}}}" for event in ORDER]
    return (
        f"local PROTOCOL = {PROTOCOL}\n"
        f"local WINDOW = {window}\n"
        f"local TRANSITIONS = {{{', '.join(allowed)}}}\n"
        f"local EVENTS = {{{', '.join(events)}}} -- {LETTERS}\n"
        f"local WAKE_UP = [==[{wakeups.template()}]==]\n"
        f"local WAKE_FORMAT = {wakeups.FORMAT}\n"
    )


def _quoted(states: Any) -> str:
    return "'" + "".join(sorted(state.letter for state in states)) + "'"


@cache
def _source(name: str) -> str:
    return files("mech_queue.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _order(names: Iterable[str]) -> list[str]:
    """The files that are needed, each behind those that it includes."""
    found: dict[str, None] = {}
    for name in names:
        for one in (*_order(_INCLUDE.findall(_source(name))), name):
            found.setdefault(one)
    return list(found)


@cache
def _part(source: str) -> _Part:
    part = _Part()
    for item in _ITEM.findall(source):
        text = item.rstrip()
        if function := _FUNCTION.match(text):
            part.definitions.append(_Definition((function[1],), text))
        elif constant := _CONSTANT.match(text):
            part.definitions.append(_Definition(tuple(constant[1].split(", ")), text))
        elif local := _LOCAL.match(text):
            part.variables += local[1].split(", ")
            part.steps.append(text.removeprefix("local ") if local[2] else f"{local[1]} = nil")
        else:
            part.steps.append(text)
    return part


def _needed(definitions: list[_Definition], steps: list[str]) -> Iterator[_Definition]:
    """Those that the steps use, and what these use."""
    wanted, before = _words("\n".join(steps)), 0
    while len(wanted) != before:
        before = len(wanted)
        wanted = wanted.union(*(one.uses for one in definitions if not wanted.isdisjoint(one.names)))
    return (one for one in definitions if not wanted.isdisjoint(one.names))


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_STRING_OR_COMMENT.sub("", text)))


def _check(entry_point: str, variables: list[str], definitions: list[_Definition]) -> None:
    """One name means one thing in a library, and what is made once must not hold what begins anew."""
    made = [name for one in definitions for name in one.names if not one.text.startswith(f"function {name}")]
    twice = {name for name in (*variables, *made) if (*variables, *made).count(name) > 1}
    held = {name for one in definitions if not _FUNCTION.match(one.text) for name in one.uses & set(variables)}
    empty = {name for one in definitions for name in one.names if one.text.endswith(" = {}")} - {
        name for one in definitions for name in one.names if one.text.startswith(f"function {name}")
    }
    if twice or held or empty:
        raise ValueError(
            f"{entry_point}: defined twice {sorted(twice)}, held by a constant {sorted(held)}, "
            f"constants that can only be filled by calls {sorted(empty)}"
        )
