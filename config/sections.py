"""Every setting with its default and its reason, by section; ``.env.example`` is made from these.

Names are those of the environment in lower case. Durations are in the unit that the name or the
reason says.
"""

from typing import Annotated, Literal

from pydantic import BaseModel

from config.fields import CertificateFile, FernetKeys, Lower, Networks, StrictBool, Words, setting


class StoreSection(BaseModel):
    """Store and broker"""

    redis_url: str = setting(
        "",
        "Address of the store (Redis 7 or newer, or Valkey): redis://, rediss:// (TLS) or unix://; "
        "redis+sentinel://host,host,host/name for the primary that Sentinels name; redis+cluster://host,host for a "
        "cluster (rediss+…: with TLS). Wins over REDIS_HOST and its companions. With neither, `make run` and the "
        "image start an embedded store.",
        secret=True,
        example="redis://:password@redis.example.com:6379/0",
    )
    redis_host: str = setting("localhost", "Host of the store, when REDIS_URL is not set.")
    redis_port: int = setting(6379, "Port of the store, with REDIS_HOST.", ge=1, le=65535)
    redis_username: str = setting("", "ACL user of the store, with REDIS_HOST; empty: the default user.")
    redis_password: str = setting("", "Password of the store, with REDIS_HOST.", secret=True)
    redis_db: int = setting(0, "Database number of the store, with REDIS_HOST.", ge=0)
    broker_url: str = setting(
        "",
        "Address of the Celery broker. Empty: the store itself (the default, and the fastest). "
        "Set it to send wake-ups through RabbitMQ, or with a cluster as the store, which carries none.",
        secret=True,
        example="amqp://user:password@rabbitmq.example.com//",
    )
    data_dir: str = setting(
        ".mech-queue", "Where `make run` keeps the embedded store's data and credentials.env (mode 0600)."
    )
    store_port: int = setting(
        0,
        "Port of the embedded store, on loopback. 0: the one used last time, else a free one.",
        ge=0,
        le=65535,
    )
    store_fsync: Annotated[Literal["everysec", "always"], Lower] = setting(
        "everysec",
        "When the embedded store writes to disk: everysec loses at most one second on power loss (and, while "
        "the disk itself stalls, up to two when the store is killed), always loses nothing and is slower.",
    )


class ServerSection(BaseModel):
    """Servers"""

    host: str = setting("127.0.0.1", "Address that the API and the metrics listen on; 0.0.0.0 in the image.")
    port: int = setting(3003, "Port of the API.", ge=1, le=65535)
    api_processes: int = setting(
        1,
        "Processes of the API, at most one per core. Each is one event loop, with threads for rarer requests.",
        ge=1,
    )
    max_waiters: int = setting(
        600,
        "Long polls and event streams that one API process holds at a time; beyond it the answer is "
        "immediate, empty, with Retry-After.",
        ge=1,
    )
    max_body_bytes: int = setting(1_048_576, "Largest request body in bytes; beyond it: 413.", ge=1024)
    trusted_proxy_hops: int = setting(
        0,
        "How many reverse proxies in front are trusted to say the client's address (X-Forwarded-For). "
        "Too high lets clients forge their address.",
        ge=0,
    )
    cors_origins: Words = setting(
        (),
        "Origins whose browsers may call the API, comma separated.",
        example="https://example.com",
    )
    enable_prometheus_metrics: StrictBool = setting(True, "Serve /metrics for Prometheus on METRICS_PORT.")
    metrics_port: int = setting(3004, "Port of the metrics.", ge=1, le=65535)
    flower_address: str = setting(
        "127.0.0.1", "Address that Flower listens on. Its own /metrics needs no login: keep it on loopback."
    )
    flower_port: int = setting(5555, "Port of Flower.", ge=1, le=65535)
    flower_basic_auth: str = setting(
        "",
        "Login of Flower, user:password. `make run` makes one; elsewhere Flower does not start without.",
        secret=True,
        example="admin:a-long-password",
    )


class KeysSection(BaseModel):
    """Keys"""

    app_env: Annotated[Literal["development", "production"], Lower] = setting(
        "development",
        "production refuses to start with a missing, short or placeholder MASTER_API_KEY, without "
        "SECRETS_KEY, or with a store on another machine without password.",
    )
    master_api_key: str = setting(
        "",
        "Opens /api/applications. At least 32 characters; `make run` makes one; elsewhere: openssl rand -hex 32",
        secret=True,
        example="a-random-text-of-at-least-32-characters",
    )
    secrets_key: FernetKeys = setting(
        "",
        "Fernet keys, comma separated, that encrypt webhook secrets and custom headers in the store. The "
        "first encrypts, all decrypt: rotate by putting a new one in front. `make run` makes one; "
        "elsewhere: openssl rand -base64 32 | tr +/ -_",
        secret=True,
        example="two-fernet-keys,comma-separated",
    )


class LimitsSection(BaseModel):
    """Limits and jobs"""

    rate_limit_window_ms: int = setting(60_000, "Window of the rate limit in ms.", ge=1000)
    rate_limit_max_requests: int = setting(
        60_000, "Requests per API key (per address where there is no valid key) in one window.", ge=1
    )
    default_job_attempts: int = setting(1, "Tries of a job that does not say: 1 makes a worker's `failed` final.", ge=1)
    default_job_backoff_delay: int = setting(
        1000, "First pause in ms before a retry; it doubles with each (exponential backoff).", ge=0
    )
    remove_completed_jobs_after: int = setting(3600, "Seconds that a completed job is kept.", ge=0)
    remove_failed_jobs_after: int = setting(86_400, "Seconds that a failed job is kept.", ge=0)


class WebhookSection(BaseModel):
    """Webhooks"""

    webhook_allowed_cidrs: Networks = setting(
        (),
        "Private networks that webhooks may reach, comma separated; all others are refused at connect. "
        "`make run` on a loopback HOST opens loopback when this is unset.",
        example="10.20.0.0/16,127.0.0.0/8",
    )
    webhook_concurrency: int = setting(64, "Deliveries that one webhooks process sends at a time.", ge=1)
    webhook_endpoint_slots: int = setting(
        0,
        "Deliveries to one endpoint at a time, by all webhooks processes together, so that a slow one cannot take "
        "all threads. 0: a quarter of "
        "WEBHOOK_CONCURRENCY.",
        ge=0,
    )
    webhook_application_slots: int = setting(
        0,
        "Deliveries of one application at a time, by all webhooks processes together, so that one with many slow "
        "endpoints cannot take all threads. 0: half of WEBHOOK_CONCURRENCY, but never less than one endpoint gets. "
        "Where there is one application, give it all: as many as WEBHOOK_CONCURRENCY, times the processes.",
        ge=0,
    )
    webhook_timeout_seconds: float = setting(
        15, "Longest attempt in seconds, from resolving the name to the last byte of the answer.", ge=1, le=30
    )
    webhook_proxy_url: str = setting(
        "",
        "HTTP proxy through which all webhooks go; it resolves the names and has to judge where they lead. Proxies "
        "that the environment names otherwise (HTTPS_PROXY …) are never used.",
        secret=True,
        example="http://egress-proxy:3128",
    )
    webhook_ca_file: CertificateFile = setting(
        "",
        "Certificates (PEM) of own authorities that receivers may use, trusted beside the public ones.",
        example="/etc/ssl/own-ca.pem",
    )
    subscription_concurrency: int = setting(4, "Threads of one subscriptions process (matching).", ge=1)


class OperationSection(BaseModel):
    """Operation"""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = setting(
        "info", "debug, info, warning or error."
    )
    log_format: Annotated[Literal["auto", "json", "console"], Lower] = setting(
        "auto", "json: one object a line; console: for people; auto: console on a terminal, else json."
    )
    drain_seconds: int = setting(
        30, "How long a stopping process may finish what it began; a container's grace must be longer.", ge=1
    )
