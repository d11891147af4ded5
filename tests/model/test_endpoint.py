"""URLs of receivers: one grammar, one normal form; and the headers that users may add."""

from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3.util import parse_url

from mech_queue.model import endpoint
from mech_queue.model.address import AddressPolicy
from mech_queue.model.errors import Code, Refusal

LOOPBACK = AddressPolicy(["127.0.0.0/8", "::1/128"])


@pytest.mark.parametrize(
    ("given_url", "stored"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM:443/A?b=C", "https://example.com/A?b=C"),
        ("http://example.com:80/", "http://example.com/"),
        ("http://example.com:8080/x", "http://example.com:8080/x"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://bücher.example/ü?q=日本", "https://xn--bcher-kva.example/%C3%BC?q=%E6%97%A5%E6%9C%AC"),
        ("https://example.com/%7Euser/%2f", "https://example.com/%7Euser/%2f"),
        ("https://user-imports_1.example.com/", "https://user-imports_1.example.com/"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700:4700:0:0:0:0:1111]:8080/", "http://[2606:4700:4700::1111]:8080/"),
        ("http://[::ffff:8.8.8.8]/", "http://[::ffff:808:808]/"),
        ("http://[64:ff9b::808:808]/", "http://[64:ff9b::808:808]/"),
    ],
)
def test_an_accepted_url_is_stored_normalised(given_url: str, stored: str) -> None:
    assert endpoint.validate_url(given_url) in (stored, stored.replace("808:808]", "8.8.8.8]"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "javascript:alert(1)",
        "http:///path",
        "http://",
        "//example.com/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com/#fragment",
        "https://example.com#",
        "http://example.com:0/",
        "http://example.com:22/",
        "http://example.com:6379@127.0.0.1/",
        "http://example.com:65536/",
        "http://example.com:1023/",
        "http://example.com:/",
        "http://example.com:+80/",
        "http://example.com\\@127.0.0.1/",
        "http://exa\nmple.com/",
        "http://example.com/\t",
        " http://example.com/",
        "http://example.com/a b",
        "http://example.com/\x00",
        "http://example.com/\ud800",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1",
        "http://[v1.x]/",
        "http://foo..bar/",
        "http://example.com./",
        "http://-example.com/",
        f"http://{'a' * 64}.example.com/",
        f"http://{'a.' * 127}com/",
        "http://exa%6dple.com/",
        "http://example.com/%zz",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://017700000001/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://1.2.3/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        f"https://example.com/{'a' * 2048}",
    ],
)
def test_an_odd_or_private_url_is_refused(url: str) -> None:
    with pytest.raises(Refusal) as refused:
        endpoint.validate_url(url)
    assert refused.value.code is Code.INVALID
    assert refused.value.message.startswith("must ")


def test_a_name_is_not_resolved_when_it_is_stored() -> None:
    assert endpoint.validate_url("http://localhost:8080/x") == "http://localhost:8080/x"


def test_an_allowed_network_opens_its_literals() -> None:
    assert endpoint.validate_url("http://127.0.0.1:9000/x", LOOPBACK) == "http://127.0.0.1:9000/x"
    with pytest.raises(Refusal):
        endpoint.validate_url("http://10.0.0.1/", LOOPBACK)


def test_the_origin_is_scheme_host_and_port() -> None:
    assert endpoint.origin("https://example.com/a") == endpoint.origin("https://example.com/b?c")
    assert endpoint.origin("https://example.com/") == "https://example.com:443"
    assert endpoint.origin("http://[2a00::1]:8080/") == "http://[2a00::1]:8080"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.text(
        alphabet=st.sampled_from("aZ1.-_:/@?#[]%\\ \n\t①é日&=;'\"<>^`{|}0x7f~!$()*+,"),
        min_size=0,
        max_size=40,
    ),
    st.sampled_from(["http://", "https://", "HTTP://example.com/", "http://[::1]", "http://a.b:80"]),
)
def test_whatever_is_accepted_every_parser_reads_alike(rest: str, start: str) -> None:
    try:
        parsed = endpoint.parse(start + rest)
    except Refusal:
        return
    theirs, plain = parse_url(parsed.url), urlsplit(parsed.url)
    default = endpoint.DEFAULT_PORTS[parsed.scheme]
    assert (theirs.host or "").strip("[]") == plain.hostname == parsed.host
    assert (theirs.port or default) == (plain.port or default) == parsed.port
    assert theirs.auth is None and plain.username is None
    assert endpoint.parse(parsed.url) == parsed


def test_headers_are_taken_as_they_are() -> None:
    headers = {"Authorization": "Bearer abc def", "X-Route": "eu~1!"}
    assert endpoint.validate_headers(headers) == headers


@pytest.mark.parametrize(
    "name",
    "Host content-length CONTENT-TYPE Transfer-Encoding connection TE Upgrade Proxy-Authorization "
    "webhook-id Webhook-Anything X-Job-Id x-job-x X-Subscription-Id X-Application-Id Accept-Encoding".split(),
)
def test_own_headers_cannot_be_replaced(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        endpoint.validate_headers({name: "x"})
    assert refused.value.details == {name: ["is set by the service itself"]}


@pytest.mark.parametrize(
    "headers",
    [
        {"X A": "b"},
        {"": "b"},
        {"X:": "b"},
        {"X": ""},
        {"X": " b"},
        {"X": "a\r\nHost: evil"},
        {"X": "a\x00"},
        {"X": "日本"},
        {"X": 1},
        {"X": "a" * 4097},
        {"X": "a", "x": "b"},
        {f"X-{number}": "a" for number in range(21)},
        ["X"],
        None,
    ],
)
def test_odd_headers_are_refused(headers: object) -> None:
    with pytest.raises(Refusal):
        endpoint.validate_headers(headers)
