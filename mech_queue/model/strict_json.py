"""Reads JSON bodies strictly, and keeps the exact text of what callers send.

Python's reader lets NaN, doubled keys, overflowing numbers and lone surrogates pass; each of them
would be stored and then break somebody else's reader. Everything here is linear in the size of the
body, whatever the body is, and every complaint is a ``BAD_JSON`` with a sentence that says where.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from mech_queue.model.errors import Code, Refusal

MAX_DEPTH = 64
"""Deepest nesting of objects and arrays: far beyond honest use, far below any reader's stack."""

MAX_DIGITS = 4300
"""Longest integer in digits: Python's own limit, because reading digits is quadratic."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS_ONLY = {ord("{"): "[", ord("}"): "]"}
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True)
class Parsed:
    """A body: its value, and for an object the exact text of each member."""

    value: Any
    members: dict[str, bytes] = field(default_factory=dict)


def parse(body: bytes) -> Parsed:
    """Read a whole body. Raises Refusal BAD_JSON."""
    value = load(body)
    return Parsed(value, raw_members(body) if type(value) is dict else {})


def load(body: bytes) -> Any:
    """Only the value of a body. Raises Refusal BAD_JSON."""
    text = _text(body)
    try:
        value = _LOADS(text)
    except json.JSONDecodeError as error:
        _refuse(f"{error.msg} (line {error.lineno}, column {error.colno})")
    except RecursionError:
        _refuse(_TOO_DEEP)
    except ValueError as error:
        _refuse(f"an integer has more than {MAX_DIGITS} digits" if "digits" in str(error) else str(error))
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper_than_allowed(text):
        _refuse(_TOO_DEEP)
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(value)
    return value


def raw_members(body: bytes) -> dict[str, bytes]:
    """The exact text of each member of an object that ``load`` accepted."""
    try:
        return {name: bytes(raw) for name, raw in _RAW_OBJECT.decode(body).items()}
    except msgspec.DecodeError as error:  # two readers disagree: refuse rather than guess
        _refuse(str(error))


def raw_items(body: bytes) -> list[bytes]:
    """The exact text of each item of an array that ``load`` accepted."""
    try:
        return [bytes(raw) for raw in _RAW_LIST.decode(body)]
    except msgspec.DecodeError as error:
        _refuse(str(error))


def _text(body: bytes) -> str:
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        _refuse("it starts with a byte order mark; send plain UTF-8")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(f"it is not UTF-8 (byte {error.start})")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {json.dumps(name[:100])} stands twice in one object")
            seen.add(name)
    return made


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON; use null or a string")


_LOADS = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant).decode


def _deeper_than_allowed(text: str) -> bool:
    """Whether valid JSON nests deeper than MAX_DEPTH.

    Without its strings and with one kind of bracket, each pass that removes the empty pairs takes one
    level away from the inside: at most MAX_DEPTH passes at the speed of ``str.replace``.
    """
    brackets = re.sub(r"[^\[\]]+", "", _STRING.sub("", text).translate(_BRACKETS_ONLY))
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace("[]", "")
        if not brackets:
            return False
    return True


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        _refuse("a string holds half of a surrogate pair (\\ud800 … \\udfff), which is no character")


_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"


def _refuse(why: str) -> NoReturn:
    raise Refusal(Code.BAD_JSON, f"The body is not acceptable JSON: {why}.") from None


def dump(value: Any) -> bytes:
    """A value that was parsed here as compact JSON text in UTF-8, keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
