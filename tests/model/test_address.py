"""The own list of forbidden addresses, and what WEBHOOK_ALLOWED_CIDRS opens."""

import pytest

from mech_queue.model.address import AddressPolicy

FORBIDDEN = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1
239.1.1.1 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:7f00:1 ::5efe:7f00:1 64:ff9b::7f00:1
64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1
3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 4000::1 e000::1
""".split()

PUBLIC = """
8.8.8.8 1.1.1.1 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1
198.17.1.1 198.20.0.1 223.255.255.255 168.63.129.15 ::ffff:8.8.8.8 64:ff9b::808:808
2606:4700:4700::1111 2a00:1450::1 2400:cb00::1
""".split()


@pytest.mark.parametrize("address", FORBIDDEN)
def test_private_and_reserved_addresses_are_refused(address: str) -> None:
    assert not AddressPolicy().allows(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert AddressPolicy().allows(address)


@pytest.mark.parametrize("text", ["", "example.com", "127.0.0.1.", "1", "0x7f.1", "[::1]"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert not AddressPolicy(["0.0.0.0/0", "::/0"]).allows(text)


def test_a_zone_does_not_hide_an_address() -> None:
    assert not AddressPolicy().allows("fe80::1%eth0")


def test_allowed_networks_open_exactly_themselves() -> None:
    policy = AddressPolicy(["10.20.0.0/16", "::1/128"])
    assert policy.allows("10.20.255.1")
    assert policy.allows("::ffff:10.20.0.1")
    assert policy.allows("::1")
    assert not policy.allows("10.21.0.1")
    assert not policy.allows("127.0.0.1")


def test_credentials_of_clouds_need_their_exact_address() -> None:
    assert not AddressPolicy(["169.254.0.0/16", "fd00::/8", "0.0.0.0/0"]).allows("169.254.169.254")
    assert not AddressPolicy(["fd00::/8"]).allows("fd00:ec2::254")
    assert not AddressPolicy(["100.64.0.0/10"]).allows("100.100.100.200")
    assert AddressPolicy(["169.254.169.254/32"]).allows("169.254.169.254")
    assert AddressPolicy(["169.254.169.254"]).allows("::ffff:169.254.169.254")
    assert AddressPolicy(["fd00:ec2::254/128"]).allows("fd00:ec2::254")
