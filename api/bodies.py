"""Request bodies and query strings, read strictly and free of any framework."""

from typing import Any
from urllib.parse import unquote_to_bytes

from mech_queue.model import strict_json
from mech_queue.model.errors import Code, Refusal
from mech_queue.model.problems import invalid

MAX_QUERY_NAMES = 100


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes. Raises TOO_LARGE."""
    length = environ.get("CONTENT_LENGTH")
    size = int(length) if length and length.isdecimal() else None
    if size is None and not environ.get("wsgi.input_terminated"):
        return b""
    if size is not None and size > limit:
        raise too_large(limit)
    body: bytes = environ["wsgi.input"].read(limit + 1 if size is None else size)
    if len(body) > limit:
        raise too_large(limit)
    return body


def too_large(limit: int) -> Refusal:
    """The 413."""
    return Refusal(
        Code.TOO_LARGE,
        f"The body is larger than {limit} bytes. Keep large data elsewhere and put its address into the job, "
        "or raise MAX_BODY_BYTES.",
        {"limit": limit},
    )


def check_type(environ: dict[str, Any]) -> None:
    """Refuse a body that is not declared as JSON, and show the right curl line."""
    given = str(environ.get("CONTENT_TYPE") or "")
    kind, _, parameters = given.lower().partition(";")
    kind = kind.strip()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        charset = parameters.partition("charset=")[2].strip(' "')
        if not charset or charset in ("utf-8", "utf8"):
            return
    method, path = environ.get("REQUEST_METHOD", "POST"), str(environ.get("PATH_INFO", ""))
    shown = path if path.isascii() and path.isprintable() and "'" not in path else ""
    said = f"Content-Type {given[:100]!r}" if given else "no Content-Type"
    raise Refusal(
        Code.NOT_JSON,
        f"The body came with {said}; send JSON: add -H 'Content-Type: application/json' to the curl line.",
        {"curl": f"curl -X {method} '$URL{shown}' -H 'x-api-key: $KEY' -H 'Content-Type: application/json' -d '{{…}}'"},
    )


def parse_body(environ: dict[str, Any], body: bytes) -> strict_json.Parsed | None:
    """The parsed body, None when there is none. Raises NOT_JSON or BAD_JSON."""
    if not body:
        return None
    if environ.get("CONTENT_TYPE") != "application/json":
        check_type(environ)
    return strict_json.parse(body)


def object_body(environ: dict[str, Any], body: bytes, example: str = "") -> strict_json.Parsed:
    """The parsed body, which must be an object (like ``example``); none at all counts as ``{}``."""
    parsed = parse_body(environ, body)
    if parsed is None:
        return strict_json.Parsed({}, {})
    if not isinstance(parsed.value, dict):
        raise invalid("", f"must be a JSON object{example and ' such as '}{example}")
    return parsed


def parse_query(text: str) -> dict[str, str]:
    """The query string; refuses repeated names and what is not UTF-8. Values may be empty."""
    if not text:
        return {}
    parts = [part for part in text.split("&") if part]
    if len(parts) > MAX_QUERY_NAMES:
        raise invalid("query", f"must have at most {MAX_QUERY_NAMES} names")
    found: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        name, value = _decode(name), _decode(value)
        if name in found:
            raise invalid(name, "is given twice")
        found[name] = value
    return found


def _decode(text: str) -> str:
    raw = text.replace("+", " ").encode("latin-1", "replace")  # WSGI carries bytes as latin-1
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("query", "must be UTF-8, percent-encoded") from None
