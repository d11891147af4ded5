"""Kinds of values that environment variables hold, and how each is read."""

import ipaddress
import ssl
from base64 import urlsafe_b64decode
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

TRUE = frozenset({"true", "1", "yes", "on"})
HOW_TO_MAKE_ONE = (
    'Make one with: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)
FALSE = frozenset({"false", "0", "no", "off"})


def setting(default: Any, why: str, *, secret: bool = False, example: str = "", **limits: Any) -> Any:
    """A field with its default, its reason, and for ``.env.example`` an example where none is the default.

    A secret may also come from the file named by ``<NAME>_FILE``, and never shows in a repr.
    """
    extra: dict[str, Any] = {"secret": secret, "example": example}
    return Field(default, description=why, repr=not secret, json_schema_extra=extra, **limits)


def _strict_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in TRUE | FALSE:
        raise ValueError("must be true or false (also 1/0, yes/no, on/off)")
    return word in TRUE


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _networks(value: Any) -> Any:
    for part in _split(value):
        ipaddress.ip_network(part)
    return _split(value)


def _fernet_keys(value: Any) -> Any:
    for position, key in enumerate(_split(value or ""), 1):
        try:
            size = len(urlsafe_b64decode(key))
        except ValueError:
            size = 0
        if size != 32:
            raise ValueError(f"key {position} is no Fernet key (32 bytes, base64). {HOW_TO_MAKE_ONE}")
    return value


def _certificate_file(value: Any) -> Any:
    try:
        if value:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except OSError as error:  # an SSLError is one
        raise ValueError(f"holds no certificates that can be read ({error.strerror or error})") from None
    return value


StrictBool = Annotated[bool, BeforeValidator(_strict_bool)]
"""true/false, 1/0, yes/no, on/off; anything else stops the start instead of meaning false."""

Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A comma-separated list."""

Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)]
"""A comma-separated list of networks such as 10.0.0.0/8."""

FernetKeys = Annotated[str, BeforeValidator(_fernet_keys)]
"""Comma-separated Fernet keys; the first encrypts, all decrypt."""

CertificateFile = Annotated[str, BeforeValidator(_certificate_file)]
"""The path of a PEM file that can be read now."""

Lower = BeforeValidator(_lower)
