"""Settings: what the environment says, and what stops a start."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError

from config.settings import SECTIONS, Settings, SettingsError, explain

STRONG_KEY = "8c1f0a5b7d3e49f2a6b8c0d1e2f30415"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting leaks in from the shell that runs the tests."""
    for section in SECTIONS:
        for name in section.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    def make(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return make


def sentence_of(settings: Callable[..., Settings], **environment: str) -> str:
    with pytest.raises((ValidationError, SettingsError)) as caught:
        settings(**environment)
    assert isinstance(caught.value, ValidationError | SettingsError)
    return explain(caught.value)


def test_defaults_are_those_of_the_contract(settings):
    default = settings()
    assert default.redis_url == "redis://localhost:6379/0"
    assert default.broker_url == default.redis_url
    assert not default.has_store
    assert (default.port, default.metrics_port, default.host) == (3003, 3004, "127.0.0.1")
    assert (default.rate_limit_window_ms, default.rate_limit_max_requests) == (60_000, 60_000)
    assert (default.default_job_attempts, default.default_job_backoff_delay) == (1, 1000)
    assert (default.remove_completed_jobs_after, default.remove_failed_jobs_after) == (3600, 86_400)
    assert (default.max_waiters, default.max_body_bytes, default.trusted_proxy_hops) == (600, 1_048_576, 0)
    assert default.app_env == "development"


def test_parts_of_the_store_address_are_joined_and_quoted(settings):
    chosen = settings(REDIS_HOST="::1", REDIS_PORT="7000", REDIS_PASSWORD="a/b@c", REDIS_DB="3")
    assert chosen.redis_url == "redis://:a%2Fb%40c@[::1]:7000/3"
    assert chosen.has_store


def test_redis_url_wins_over_parts(settings):
    assert settings(REDIS_URL="unix:///run/valkey.sock", REDIS_HOST="x").redis_url == "unix:///run/valkey.sock"


def test_an_address_of_another_kind_is_refused(settings):
    assert "REDIS_URL must start with" in sentence_of(settings, REDIS_URL="http://localhost:6379")


@pytest.mark.parametrize(("word", "meaning"), [("true", True), ("0", False), ("No", False), ("ON", True)])
def test_booleans_are_read(settings, word, meaning):
    assert settings(ENABLE_PROMETHEUS_METRICS=word).enable_prometheus_metrics is meaning


@pytest.mark.parametrize("word", ["maybe", "flase", "2", "t", "enabled"])
def test_other_words_are_no_booleans(settings, word):
    assert "ENABLE_PROMETHEUS_METRICS: must be true or false" in sentence_of(settings, ENABLE_PROMETHEUS_METRICS=word)


def test_an_empty_value_is_no_value(settings):
    chosen = settings(PORT="", MASTER_API_KEY="", REDIS_HOST="")
    assert chosen.port == 3003
    assert not chosen.has_store


def test_lists_are_split_and_networks_checked(settings):
    chosen = settings(CORS_ORIGINS="https://a.example, https://b.example", WEBHOOK_ALLOWED_CIDRS="10.0.0.0/8,::1/128")
    assert chosen.cors_origins == ("https://a.example", "https://b.example")
    assert chosen.webhook_allowed_cidrs == ("10.0.0.0/8", "::1/128")
    assert "WEBHOOK_ALLOWED_CIDRS" in sentence_of(settings, WEBHOOK_ALLOWED_CIDRS="10.0.0.1/8")


def test_a_secret_may_come_from_a_file(settings, tmp_path: Path):
    (tmp_path / "key").write_text(f"{STRONG_KEY}\n")
    assert settings(MASTER_API_KEY_FILE=str(tmp_path / "key")).master_api_key == STRONG_KEY


def test_a_secret_given_twice_or_in_a_missing_file_is_refused(settings, tmp_path: Path):
    missing = str(tmp_path / "missing")
    assert "MASTER_API_KEY_FILE cannot be read" in sentence_of(settings, MASTER_API_KEY_FILE=missing)
    assert "both set" in sentence_of(settings, MASTER_API_KEY=STRONG_KEY)


def test_sentences_and_reprs_never_show_a_secret(settings):
    assert "hunter2" not in sentence_of(settings, SECRETS_KEY="hunter2", PORT="x")
    shown = repr(settings(SECRETS_KEY="", PORT="", MASTER_API_KEY="hunter2", REDIS_PASSWORD="hunter2"))
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "is not set"),
        ("short", "is shorter than 32"),
        ("changeme-changeme-changeme-changeme", "is a placeholder"),
        ("a-random-text-of-at-least-32-characters", "is a placeholder"),
        ("x" * 40, "is one character repeated"),
    ],
)
def test_a_weak_master_key_warns_in_development_and_stops_production(settings, key, reason):
    assert reason in settings(MASTER_API_KEY=key).warnings[0]
    refusal = sentence_of(settings, APP_ENV="production", SECRETS_KEY=Fernet.generate_key().decode())
    assert refusal.startswith(f"MASTER_API_KEY {reason}")


def test_production_needs_a_secrets_key(settings):
    assert "SECRETS_KEY is not set" in sentence_of(settings, APP_ENV="production", MASTER_API_KEY=STRONG_KEY)


def test_production_refuses_a_store_elsewhere_without_password(settings):
    production = {
        "APP_ENV": "production",
        "MASTER_API_KEY": STRONG_KEY,
        "SECRETS_KEY": ",".join(Fernet.generate_key().decode() for _ in range(2)),
    }
    refusal = sentence_of(settings, **production, REDIS_URL="redis://redis.example.com/0")
    assert "redis.example.com has no password" in refusal
    assert settings(REDIS_URL="redis://:pw@redis.example.com/0").warnings == []
    assert settings(REDIS_URL="redis://127.0.0.1/0").app_env == "production"


def test_an_endpoint_gets_a_quarter_and_an_application_half_of_the_threads_unless_told_otherwise(settings):
    def slots(**environment):
        made = settings(**environment)
        return made.endpoint_slots, made.application_slots

    assert slots() == (16, 32)
    assert slots(WEBHOOK_ENDPOINT_SLOTS="40") == (40, 40)
    assert slots(WEBHOOK_ENDPOINT_SLOTS="0", WEBHOOK_CONCURRENCY="3") == slots(WEBHOOK_CONCURRENCY="1") == (1, 1)
    assert slots(WEBHOOK_ENDPOINT_SLOTS="2", WEBHOOK_APPLICATION_SLOTS="5") == (2, 5)


def test_a_proxy_for_webhooks_is_a_whole_address(settings):
    assert "http://host:port" in sentence_of(settings, WEBHOOK_PROXY_URL="proxy:3128")
    assert settings(WEBHOOK_PROXY_URL="http://me:pw@proxy:3128").webhook_proxy_url


def test_a_file_without_certificates_stops_the_start(settings, tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate")
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        assert "WEBHOOK_CA_FILE: holds no certificates" in sentence_of(settings, WEBHOOK_CA_FILE=str(path))


def test_an_entry_point_ends_with_one_sentence():
    ended = subprocess.run(
        [sys.executable, "-c", "from config.settings import load; load()"],
        env={"APP_ENV": "production"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("mech-queue cannot start: MASTER_API_KEY is not set")
