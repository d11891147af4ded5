"""Metadata: which of it can be searched, and when two values are the same.

A field is a top-level scalar, or a scalar one level down, named ``a.b``. Its value is kept as a
canonical JSON text, in which 1 and 1.0 are one value and 1, "1" and true are three.
"""

import json
import re
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any

MAX_KEYS = 50
"""Most keys of a job's metadata, and most fields of it that can be searched (each costs an index entry)."""

Fields = tuple[tuple[str, str], ...]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MAX_NUMBER = 4300
SHORT_FIELD = 100  # characters of a name and value whose hash is remembered


def canonical(value: Any) -> str | None:
    """The canonical JSON text of a scalar; None for null, objects and arrays, which cannot be searched."""
    if isinstance(value, str):
        return encode_basestring(value)
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else float.__repr__(value)
    return None


def fields_of(metadata: dict[str, Any]) -> Fields:
    """The searchable fields of metadata. A literal key ``a.b`` hides the path a → b."""
    found: dict[str, str] = {}
    for name, value in metadata.items():
        text = canonical(value)
        if text is not None:
            found[name] = text
    for name, value in metadata.items():
        if isinstance(value, dict):
            for inner, scalar in value.items():
                path = f"{name}.{inner}"
                text = canonical(scalar)
                if text is not None and path not in metadata and path not in found:
                    found[path] = text
    return tuple(found.items())


def problem_of(metadata: Any) -> str | None:
    """What is wrong with metadata, as a sentence after its name; None when it is fine."""
    if not isinstance(metadata, dict):
        return "must be an object"
    if len(metadata) > MAX_KEYS:
        return f"must have at most {MAX_KEYS} keys, it has {len(metadata)}"
    if len(metadata) + sum(len(value) for value in metadata.values() if isinstance(value, dict)) <= MAX_KEYS:
        return None  # however many of them can be searched
    searchable = len(fields_of(metadata))
    if searchable > MAX_KEYS:
        return f"must have at most {MAX_KEYS} searchable fields (nested ones counted), it has {searchable}"
    return None


def merge(metadata: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Metadata with a patch merged in: given keys replace, null removes."""
    merged = {**metadata, **patch}
    return {name: value for name, value in merged.items() if name not in patch or patch[name] is not None}


def accepted(text: str) -> tuple[str, ...]:
    """What ``metadata.k=<text>`` accepts, as canonical texts.

    ``3`` finds 3 and "3", ``true`` finds true and "true", ``03`` only "03"; ``"3"`` in quotes only "3".
    """
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            quoted = json.loads(text, strict=False)
            return (encode_basestring(quoted),)
        except ValueError:
            pass
    texts = [encode_basestring(text)]
    if text in ("true", "false"):
        texts.append(text)
    elif len(text) <= _MAX_NUMBER and _NUMBER.fullmatch(text):
        texts += _number(text)
    return tuple(texts)


def _number(text: str) -> list[str]:
    value: int | float
    try:
        value = int(text)
    except ValueError:
        value = float(text)
    if value in (float("inf"), float("-inf")):
        return []
    found = canonical(value)
    return [found] if found is not None else []


def fields_hash(name: str, canonical_text: str) -> bytes:
    """Six bytes that stand for "field = value" in the search index (collisions are verified on read)."""
    short = len(name) + len(canonical_text) <= SHORT_FIELD
    return _remembered(name, canonical_text) if short else _hash(name, canonical_text)


def _hash(name: str, canonical_text: str) -> bytes:
    key = name.encode("utf-8", "surrogatepass")
    value = canonical_text.encode("utf-8", "surrogatepass")
    return sha256(b"%d:%s=%s" % (len(key), key, value)).digest()[:6]


_remembered = lru_cache(maxsize=8192)(_hash)  # most fields have few values
