"""Keep the tests on loopback: connecting or resolving anything else is refused.

An audit hook sees every socket of this process, whatever library made it. Names are refused the
way a machine without a name server refuses them. What was refused is recorded, and the test in
whose time it happened fails even when the code under test swallowed the error.
"""

import ipaddress
import socket
import sys
from typing import Any

refused: list[str] = []
"""What was refused since the running test began."""

_LOCAL_NAMES = {"", "localhost", "ip6-localhost", socket.gethostname()}


class OutsideConnection(RuntimeError):
    """A test tried to reach something that is not on this machine."""


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host in _LOCAL_NAMES
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        _, address = arguments
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            refused.append(f"{event} {address!r}")
            raise OutsideConnection(f"tests stay on loopback, refused: {address!r}")
    elif event == "socket.getaddrinfo":
        host = arguments[0]
        text = host.decode() if isinstance(host, bytes) else str(host or "")
        if not _is_loopback(text) and not _is_literal(text):
            raise socket.gaierror(socket.EAI_NONAME, f"tests resolve no names: {text}")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def install() -> None:
    """Refuse from now on; an audit hook stays for the life of the process."""
    sys.addaudithook(_hook)
