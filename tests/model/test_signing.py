"""Signatures: what we sign, the public package verifies; and our own check for receivers."""

import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from mech_queue.model import signing
from mech_queue.webhooks import SignatureError, verify

BODY = '{"jobId": "j", "status": "completed", "name": "日本 🎉"}'.encode()


def signed(*secrets: str, at: float | None = None, body: bytes = BODY) -> dict[str, str]:
    return signing.sign(secrets, "msg_1", int(at if at is not None else time.time()), body)


def test_the_public_package_verifies_what_we_sign() -> None:
    secret = signing.new_secret()
    assert Webhook(secret).verify(BODY, signed(secret)) == {
        "jobId": "j",
        "status": "completed",
        "name": "日本 🎉",
    }


def test_we_verify_what_the_public_package_signs() -> None:
    secret = signing.new_secret()
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("msg_1", now, BODY.decode()),
    }
    assert verify(headers, BODY, secret)["jobId"] == "j"


def test_during_a_rotation_old_and_new_secret_verify() -> None:
    old, new = signing.new_secret(), signing.new_secret()
    headers = signed(new, old)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers)
        assert verify(headers, BODY, secret)
    assert verify(signed(new), BODY, [old, new])


def test_a_changed_body_or_another_secret_is_refused() -> None:
    secret = signing.new_secret()
    with pytest.raises(SignatureError, match="no webhook-signature fits"):
        verify(signed(secret), BODY + b" ", secret)
    with pytest.raises(SignatureError, match="no webhook-signature fits"):
        verify(signed(secret), BODY, signing.new_secret())
    with pytest.raises(SignatureError, match="no webhook-signature fits"):
        verify({**signed(secret), "webhook-id": "msg_2"}, BODY, secret)


@pytest.mark.parametrize("shift_s", [-301, 302])
def test_an_old_or_future_timestamp_is_refused(shift_s: int) -> None:
    secret = signing.new_secret()
    headers = signed(secret, at=time.time() + shift_s)
    with pytest.raises(SignatureError, match="more than 300 s"):
        verify(headers, BODY, secret)
    assert verify(headers, BODY, secret, tolerance_s=400)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    secret = signing.new_secret()
    headers = signed(secret)
    del headers[name]
    with pytest.raises(SignatureError, match=name):
        verify(headers, BODY, secret)


def test_other_versions_and_nonsense_do_not_verify() -> None:
    secret = signing.new_secret()
    headers = signed(secret)
    value = headers["webhook-signature"]
    for bad in (value.replace("v1,", "v1a,"), value.removeprefix("v1,"), "v1,", "é ü", "v1,日本"):
        with pytest.raises(SignatureError):
            verify({**headers, "webhook-signature": bad}, BODY, secret)
    assert verify({**headers, "webhook-signature": f"v1a,xx {value}"}, BODY, secret)
    with pytest.raises(SignatureError, match="no number"):
        verify({**headers, "webhook-timestamp": "²"}, BODY, secret)


def test_a_malformed_secret_is_a_mistake_of_the_receiver() -> None:
    for secret in ("whsec_", "whsec_!", "not base64!"):
        with pytest.raises(ValueError):
            verify(signed(signing.new_secret()), BODY, secret)


def test_new_secrets_are_32_bytes_and_differ() -> None:
    first, second = signing.new_secret(), signing.new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(signing.key_of(first)) == 32
