"""All settings, typed, from the environment: ``Settings()``; ``load()`` in an entry point.

Only the environment is read; a ``.env`` file is put into it by whoever starts the processes (the
supervisor of ``make run``, a Procfile runner, compose). An empty value counts as unset, and a
secret ``NAME`` may be given as ``NAME_FILE``, the path of a file that holds it.
"""

import ipaddress
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.fields import HOW_TO_MAKE_ONE
from config.sections import (
    KeysSection,
    LimitsSection,
    OperationSection,
    ServerSection,
    StoreSection,
    WebhookSection,
)

SECTIONS: tuple[type[BaseModel], ...] = (
    StoreSection,
    KeysSection,
    ServerSection,
    LimitsSection,
    WebhookSection,
    OperationSection,
)

MASTER_KEY_LENGTH = 32
"""Fewest characters of a master key that production accepts."""

STORE_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    *(f"{tls}+{kind}" for kind in ("sentinel", "cluster") for tls in ("redis", "rediss")),
)

PLACEHOLDER_WORDS = (
    "changeme",
    "change-me",
    "change_me",
    "your-",
    "your_",
    "secure_key",
    "placeholder",
    "at-least-32",
)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads ``<NAME>_FILE`` for every secret."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            extra = field.json_schema_extra
            path = os.environ.get(f"{name.upper()}_FILE")
            if not path or not (isinstance(extra, dict) and extra.get("secret")):
                continue
            if os.environ.get(name.upper()):
                raise SettingsError(f"{name.upper()} and {name.upper()}_FILE are both set; keep one of them.")
            try:
                found[name] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SettingsError(f"{name.upper()}_FILE cannot be read: {error.strerror}: {path}") from None
        return found


class SettingsError(Exception):
    """The environment does not allow a start; the message says what to change."""


class Settings(StoreSection, KeysSection, ServerSection, LimitsSection, WebhookSection, OperationSection, BaseSettings):
    """The settings of every process of the service. ``redis_url`` and ``broker_url`` are always resolved."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    _has_store: bool = PrivateAttr(default=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then ``NAME_FILE``."""
        return init_settings, env_settings, _SecretFiles(settings_cls)

    @model_validator(mode="after")
    def _resolve(self) -> "Settings":
        self._has_store = bool(self.redis_url) or "redis_host" in self.model_fields_set
        self.redis_url = self.redis_url or self._url_of_parts()
        if urlsplit(self.redis_url).scheme not in STORE_SCHEMES:
            raise ValueError(f"REDIS_URL must start with one of {', '.join(f'{one}://' for one in STORE_SCHEMES)}")
        if "+sentinel:" in self.redis_url and not urlsplit(self.redis_url).path.strip("/"):
            raise ValueError("REDIS_URL with Sentinels must end in the name that they give to the primary: /mymaster")
        if "+cluster:" in self.redis_url and not self.broker_url:
            raise ValueError("BROKER_URL is needed with a cluster as the store: RabbitMQ, or a Redis of its own")
        self.broker_url = self.broker_url or self.redis_url
        proxy = urlsplit(self.webhook_proxy_url)
        if self.webhook_proxy_url and (proxy.scheme != "http" or not proxy.hostname):
            raise ValueError("WEBHOOK_PROXY_URL must be http://host:port")
        if self.app_env == "production":
            self._refuse_in_production()
        return self

    @property
    def has_store(self) -> bool:
        """Whether a store was named (REDIS_URL or REDIS_HOST); else ``make run`` starts its own."""
        return self._has_store

    @property
    def job_defaults(self) -> dict[str, int]:
        """What holds for jobs that do not say, told to the store at each start (``Store.greet``)."""
        return {
            "keep_completed": self.remove_completed_jobs_after,
            "keep_failed": self.remove_failed_jobs_after,
            "keep_cancelled": self.remove_completed_jobs_after,
            "attempts": self.default_job_attempts,
            "backoff_delay": self.default_job_backoff_delay,
        }

    @property
    def endpoint_slots(self) -> int:
        """Deliveries to one endpoint at a time: WEBHOOK_ENDPOINT_SLOTS, else a quarter of WEBHOOK_CONCURRENCY."""
        return self.webhook_endpoint_slots or max(1, self.webhook_concurrency // 4)

    @property
    def application_slots(self) -> int:
        """Deliveries of one application at a time: WEBHOOK_APPLICATION_SLOTS, else half of WEBHOOK_CONCURRENCY."""
        return self.webhook_application_slots or max(self.endpoint_slots, self.webhook_concurrency // 2)

    @property
    def warnings(self) -> list[str]:
        """Sentences that a start in development must show; production refuses instead."""
        weakness = self._weakness_of_master_key()
        if self.app_env == "production" or not weakness:
            return []
        return [f"MASTER_API_KEY {weakness}. This is accepted in development only (APP_ENV)."]

    def _url_of_parts(self) -> str:
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        login = ""
        if self.redis_username or self.redis_password:
            login = f"{quote(self.redis_username, safe='')}:{quote(self.redis_password, safe='')}@"
        return f"redis://{login}{host}:{self.redis_port}/{self.redis_db}"

    def _weakness_of_master_key(self) -> str:
        key = self.master_api_key
        if not key:
            return "is not set"
        if any(word in key.lower() for word in PLACEHOLDER_WORDS):
            return "is a placeholder"
        if len(key) < MASTER_KEY_LENGTH:
            return f"is shorter than {MASTER_KEY_LENGTH} characters"
        return "is one character repeated" if len(set(key)) == 1 else ""

    def _refuse_in_production(self) -> None:
        weakness = self._weakness_of_master_key()
        if weakness:
            raise ValueError(
                f"MASTER_API_KEY {weakness}; production needs a random one of at least "
                f"{MASTER_KEY_LENGTH} characters, e.g. from: openssl rand -hex 32"
            )
        if not self.secrets_key:
            raise ValueError(
                f"SECRETS_KEY is not set; production needs it to encrypt webhook secrets. {HOW_TO_MAKE_ONE}"
            )
        store = urlsplit(self.redis_url)
        far = [host for host in hosts(self.redis_url) if not _is_loopback(host)]
        if store.scheme != "unix" and not store.password and far:
            raise ValueError(
                f"the store at {far[0]} has no password; production needs one (in REDIS_URL, or REDIS_PASSWORD)"
            )


def load() -> Settings:
    """The settings for an entry point: on a bad environment prints one sentence and exits with 1."""
    try:
        return Settings()
    except (ValidationError, SettingsError) as error:
        print(f"mech-queue cannot start: {explain(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def explain(error: ValidationError | SettingsError) -> str:
    """The sentence for a person; it never shows a value, which may be a secret."""
    if isinstance(error, SettingsError):
        return str(error)
    sentences = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(str(part) for part in one["loc"]).upper()
        sentences.append(f"{name}: {one['msg']}".removeprefix(": ").replace("Value error, ", ""))
    return "; ".join(sentences)


def hosts(url: str) -> list[str]:
    """The hosts of a store's address; those of Sentinels and clusters are several."""
    found = urlsplit(url).netloc.rpartition("@")[2].split(",")
    return [urlsplit(f"//{one}").hostname or "localhost" for one in found]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
