"""Encryption at rest of what the service must be able to read again: webhook secrets, custom headers.

``SECRETS_KEY`` is one or more Fernet keys, comma separated: the first encrypts, all decrypt. To
rotate, put a new key in front, restart, rewrite what is stored (``make reseal``), remove the old one.
Without a key (a development setup) values are kept as they are, marked so; the first write under
a key encrypts them.
"""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_PLAIN = b"0"
_FERNET = b"1"


class SecretsKeyError(Exception):
    """SECRETS_KEY is unusable, or does not fit what is stored. The text never shows a key or a secret."""


class SecretBox:
    """Seals and opens secrets. Its repr shows nothing."""

    def __init__(self, keys: str | None = None) -> None:
        texts = [part.strip() for part in (keys or "").split(",") if part.strip()]
        try:
            self._first = Fernet(texts[0]) if texts else None
            self._fernet = MultiFernet([Fernet(text) for text in texts]) if texts else None
        except ValueError:
            raise SecretsKeyError(
                "SECRETS_KEY must be Fernet keys (32 bytes, url-safe base64), separated by commas; "
                "make one with: python -c "
                "'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
            ) from None
        self._known = lru_cache(maxsize=1024)(self._decrypt)  # each delivery asks for the same few

    def __repr__(self) -> str:
        return f"<SecretBox {'sealed' if self._fernet else 'open'}>"

    def seal(self, secret: bytes) -> bytes:
        """The form that may be stored."""
        if self._fernet is None:
            return _PLAIN + secret
        return _FERNET + self._fernet.encrypt(secret)

    def _decrypt(self, stored: bytes) -> bytes:
        kind, token = stored[:1], stored[1:]
        if kind == _PLAIN:
            return token
        if kind != _FERNET:
            raise SecretsKeyError("A stored secret has a format that this version does not know")
        if self._fernet is None:
            raise SecretsKeyError("SECRETS_KEY is not set, but stored secrets were encrypted with one")
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise SecretsKeyError("No key in SECRETS_KEY opens a stored secret; keep the old key in the list") from None

    def open(self, stored: bytes) -> bytes:
        """The secret again. Raises SecretsKeyError."""
        return self._known(stored)

    def current(self, stored: bytes) -> bool:
        """Whether it is sealed as ``seal`` would: by the first key, or not at all where there is none."""
        if self._first is None:
            return stored[:1] == _PLAIN
        if stored[:1] != _FERNET:
            return False
        try:
            self._first.decrypt(stored[1:])
        except InvalidToken:
            return False
        return True
