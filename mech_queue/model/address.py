"""Which addresses webhooks may reach: our own list, because ``ipaddress.is_global`` has holes.

Everything that is not public unicast is refused; ``WEBHOOK_ALLOWED_CIDRS`` opens private networks
again. The endpoints where clouds hand out credentials open only by their exact address.
"""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in text.split())


FORBIDDEN_V4 = _networks(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    "168.63.129.16/32"  # the last is public by its number, and Azure's host agent in fact
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that is handed out as public unicast; all else is refused unread."""

FORBIDDEN_V6 = _networks(
    "2001::/23 "  # protocol assignments: Teredo, ORCHID, benchmarking
    "2001:db8::/32 3fff::/20 "  # documentation
    "2002::/16"  # 6to4: carries any IPv4 address
)
EMBEDDED_V4 = (
    ipaddress.IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64: how an IPv6-only host reaches IPv4
)
METADATA = frozenset(
    ipaddress.ip_address(part)
    for part in (
        "169.254.169.254 169.254.170.2 169.254.170.23 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 "
        "168.63.129.16 100.100.100.200 192.0.0.192"
    ).split()
)
"""Where clouds hand out credentials: a whole network in the allowed list does not open these."""


class AddressPolicy:
    """Judges addresses; ``allowed`` are networks that are open although they are not public."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(one.strip()) for one in allowed)

    def allows(self, text: str) -> bool:
        """Whether a connection to this address may be made. Text that is no address: never."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        candidates = [address]
        embedded = _embedded(address)
        if embedded is not None:
            candidates.append(embedded)
        if any(candidate in METADATA for candidate in candidates):
            return any(self._names_exactly(candidate) for candidate in candidates)
        if any(candidate in network for network in self.allowed for candidate in candidates):
            return True
        return _is_public(embedded or address)

    def _names_exactly(self, address: Address) -> bool:
        return any(network.num_addresses == 1 and address in network for network in self.allowed)


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in EMBEDDED_V4):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in FORBIDDEN_V4)
    return address in PUBLIC_V6 and not any(address in network for network in FORBIDDEN_V6)


_policy = AddressPolicy()


def allow(networks: Iterable[str]) -> AddressPolicy:
    """Set this process's policy, once at its start, from ``WEBHOOK_ALLOWED_CIDRS``; returns it."""
    global _policy
    _policy = AddressPolicy(networks)
    return _policy


def policy() -> AddressPolicy:
    """This process's policy. Until ``allow`` was called nothing private is open."""
    return _policy
