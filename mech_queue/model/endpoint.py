"""URLs of receivers and the headers sent to them: one strict grammar, parsed once.

Parsers disagree about odd URLs (backslashes, blanks, userinfo, numbers as hosts), and between two
opinions an attacker fits. So only what every parser reads alike is accepted, and what is stored is
the normalised text; the sender connects to exactly that.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mech_queue.model import address
from mech_queue.model.errors import Code, Refusal

MAX_URL = 2048
MAX_HEADERS = 20
MAX_HEADER_VALUE = 4096
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[^\[\]:/?#@%\\]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BAD_CHARACTER = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]|[\ud800-\udfff]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TO_ESCAPE = re.compile(r"""[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]""")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OWN_HEADERS = frozenset(
    "host content-length content-type content-encoding transfer-encoding connection keep-alive te trailer "
    "upgrade expect accept-encoding x-subscription-id x-application-id".split()
)
_OWN_PREFIXES = ("proxy-", "webhook-", "x-job-")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed URL. ``host`` is without brackets; ``target`` is path and query as sent."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """Scheme, host and port: what shares slots, turns and a breaker."""
        return f"{self.scheme}://{self._bracketed}:{self.port}"

    @property
    def url(self) -> str:
        """The normalised URL: lower-case host, no default port, a path at least."""
        default = self.port == DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{self._bracketed}{'' if default else f':{self.port}'}{self.target}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse(url: str) -> Endpoint:
    """Read a URL; raises Refusal INVALID whose message continues the field's name ("must …")."""
    if not isinstance(url, str):
        raise _refused("must be a URL (a string)")
    return _parse(url)


@lru_cache(maxsize=1024)  # each attempt asks twice
def _parse(url: str) -> Endpoint:
    if len(url) > MAX_URL:
        raise _refused(f"must have at most {MAX_URL} characters")
    if _BAD_CHARACTER.search(url):
        raise _refused("must not contain blanks, control characters or backslashes")
    if "#" in url:
        raise _refused("must not have a fragment (#…)")
    found = _URL.fullmatch(url)
    if found is None:
        raise _refused(_why_unreadable(url))
    scheme = found["scheme"].lower()
    target = (found["path"] or "/") + (found["query"] or "")
    if _BAD_ESCAPE.search(target):
        raise _refused("must have two hexadecimal digits after each %")
    port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536 or (port < 1024 and port not in (80, 443)):
        raise _refused("must use port 80, 443 or one from 1024 to 65535")
    return Endpoint(scheme, _host(found["host"]), port, _TO_ESCAPE.sub(_escape, target))


def validate_url(url: str, policy: address.AddressPolicy | None = None) -> str:
    """The normalised URL, to be stored.

    Only addresses written as numbers are judged here; names are judged whenever a connection is made.
    """
    endpoint = parse(url)
    if is_literal(endpoint.host) and not (policy or address.policy()).allows(endpoint.host):
        raise _refused("must not lead to a private or reserved address")
    return endpoint.url


def origin(url: str) -> str:
    """The origin of a stored URL."""
    return parse(url).origin


def is_literal(host: str) -> bool:
    """Whether a parsed host is an address and not a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def validate_headers(headers: Any) -> dict[str, str]:
    """Custom headers as they will be sent; raises Refusal INVALID, a sentence per header in details."""
    if not isinstance(headers, dict):
        raise _refused("must be an object of header names and values")
    if len(headers) > MAX_HEADERS:
        raise _refused(f"must have at most {MAX_HEADERS} entries, it has {len(headers)}")
    wrong = {str(name): [sentence] for name, value in headers.items() if (sentence := _problem(name, value))}
    if len({str(name).lower() for name in headers}) < len(headers):
        raise _refused("must not name a header twice (upper and lower case are the same)")
    if wrong:
        name, (sentence,) = next(iter(wrong.items()))
        raise Refusal(Code.INVALID, f"{name[:100]!r} {sentence}.", wrong)
    return dict(headers)


def _problem(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        return "is no header name"
    lower = name.lower()
    if lower in _OWN_HEADERS or lower.startswith(_OWN_PREFIXES):
        return "is set by the service itself"
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return "must have a value of visible ASCII characters"
    return None if len(value) <= MAX_HEADER_VALUE else f"must have at most {MAX_HEADER_VALUE} characters"


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise _refused("must have a valid IPv6 address between [ and ]") from None
    host = text.lower() if text.isascii() else _idna(text)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("must have a valid host name")
    if _NUMBER.fullmatch(labels[-1]):  # some resolvers read 2130706433, 0x7f.1 and 0177.0.0.1 as addresses
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _refused("must write an IPv4 address as four decimal numbers") from None
    return host


def _idna(text: str) -> str:
    import idna  # arrives with requests; only names that are not ASCII need it

    try:
        return idna.encode(text, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise _refused("must have a valid host name") from None


def _why_unreadable(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in DEFAULT_PORTS:
        return "must start with http:// or https://"
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "@" in authority:
        return "must not contain a user name or password"
    if "%" in authority:
        return "must not have a % in its host"
    return "must have a host, as in https://example.com/hook"


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def _refused(sentence: str) -> Refusal:
    return Refusal(Code.INVALID, sentence + ".")
