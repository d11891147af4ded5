"""``make run``: the whole service on one machine, from one command.

1. Read ``.env`` (or the file that ENV_FILE names) below the environment, lock DATA_DIR, see that the ports are free.
2. Start the embedded store (unless REDIS_URL or REDIS_HOST names one) and wait for its PING.
3. Make the credentials and the first application, or find those of last time.
4. Start the other processes, wait until the API answers, print how to use it.
5. Watch them until Ctrl-C or SIGTERM; then drain the workers first and the store last.
"""

import http.client
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values

from config.settings import Settings, load
from workers import banner, commands
from workers.credentials import Credentials
from workers.data_dir import DataDir, DataDirTaken
from workers.supervisor import Child, Supervisor, printer
from workers.valkey import ALLOCATOR, EmbeddedStore, EmbeddedStoreError, port_is_free

START_ORDER = ("scheduler", "webhooks", "subscriptions", "api", "metrics", "flower")
STOP_STAGE = {
    "scheduler": 0,
    "webhooks": 0,
    "subscriptions": 0,
    "api": 1,
    "metrics": 1,
    "flower": 1,
    "store": 2,
}

STORE_DEADLINE_S = 600.0
"""A big append-only file takes a while to read; a store that ends is noticed at once."""

READY_DEADLINE_S = 60.0


class CannotStart(Exception):
    """The message is the one sentence to show."""


class Service:
    """One run of everything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.say = printer()
        self.supervisor = Supervisor(self.say, settings.drain_seconds)
        self.data_dir = DataDir(Path(settings.data_dir))
        self.environment = dict(os.environ)

    def run(self) -> None:
        """Everything of this module's first lines; raises CannotStart, DataDirTaken, EmbeddedStoreError."""
        self.data_dir.lock()
        try:
            self._require_free_ports()
            credentials = Credentials(self.data_dir)
            credentials.complete()
            credentials.update({"MECH_QUEUE_URL": banner.address(self.settings)})
            self.environment |= self._defaults() | credentials.environment(self.settings)
            with self.supervisor.signals():
                try:
                    self._run(credentials)
                finally:
                    self.supervisor.stop()
        finally:
            self.data_dir.release()

    def _run(self, credentials: Credentials) -> None:
        redis_url = self.settings.redis_url
        if not self.settings.has_store:
            redis_url = self._start_store(credentials)
        if self.supervisor.stops:
            return
        application = self._first_application(credentials, redis_url)
        for name in self._roles():
            self.supervisor.start(Child(name, commands.role(name), self.environment, STOP_STAGE[name]))
        if self.supervisor.wait_for(self._api_answers, READY_DEADLINE_S):
            self.supervisor.wait_for(self._all_listen, 5)
            print(banner.render(self.settings, self.data_dir.path, application), flush=True)
        elif not self.supervisor.stops:
            self.say("supervisor", f"no answer of the API within {READY_DEADLINE_S:g} s; see its lines")
        self.supervisor.watch()
        self.say("supervisor", "stopping: workers first, the store last (again to force)")

    def _start_store(self, credentials: Credentials) -> str:
        store = EmbeddedStore(self.settings, self.data_dir, credentials.values["STORE_PASSWORD"])
        credentials.update({"STORE_URL": store.url})
        self.environment["REDIS_URL"] = store.url
        child = Child(
            "store",
            store.command(),
            ALLOCATOR | self.environment,
            STOP_STAGE["store"],
            pass_fds=(self.data_dir.lock_fd,),
        )
        self.supervisor.start(child)
        self.supervisor.wait_for(lambda: store.answers() or not child.running, STORE_DEADLINE_S)
        if not child.running and not self.supervisor.stops:
            reason = child.last_lines[-1] if child.last_lines else "no reason given"
            raise CannotStart(f"The embedded store did not start: {reason}")
        return store.url

    def _first_application(self, credentials: Credentials, redis_url: str) -> banner.FirstApplication:
        try:
            return credentials.first_application(self.settings, redis_url)
        except Exception as error:
            raise CannotStart(f"The store cannot be used: {error.__cause__ or error}") from error

    def _roles(self) -> list[str]:
        skipped = set() if self.settings.enable_prometheus_metrics else {"metrics"}
        return [name for name in START_ORDER if name not in skipped]

    def _require_free_ports(self) -> None:
        for variable, host, port in self._listeners():
            if not port_is_free(host, port):
                raise CannotStart(
                    f"Port {port} is taken by another program; stop it, or choose another port: "
                    f"{variable}={port + 10} make run"
                )

    def _listeners(self) -> list[tuple[str, str, int]]:
        chosen = self.settings
        listeners = [
            ("PORT", chosen.host, chosen.port),
            ("FLOWER_PORT", chosen.flower_address or "0.0.0.0", chosen.flower_port),
        ]
        if chosen.enable_prometheus_metrics:
            listeners.insert(1, ("METRICS_PORT", chosen.host, chosen.metrics_port))
        if chosen.store_port and not chosen.has_store:
            listeners.append(("STORE_PORT", "127.0.0.1", chosen.store_port))
        return listeners

    def _defaults(self) -> dict[str, str]:
        """What the children are told beside the environment: loopback webhooks, logs for this terminal."""
        defaults = {"PYTHONUNBUFFERED": "1"}
        if self.settings.host in ("127.0.0.1", "::1", "localhost") and "webhook_allowed_cidrs" not in (
            self.settings.model_fields_set
        ):
            defaults["WEBHOOK_ALLOWED_CIDRS"] = "127.0.0.0/8,::1/128"
        if self.settings.log_format == "auto" and sys.stderr.isatty():
            defaults["LOG_FORMAT"] = "console"
        return defaults

    def _api_answers(self) -> bool:
        connection = http.client.HTTPConnection(_reachable(self.settings.host), self.settings.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _all_listen(self) -> bool:
        return not any(port_is_free(host, port) for _, host, port in self._listeners())


def _reachable(host: str) -> str:
    """The address at which a server bound to ``host`` answers from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def read_env_file() -> None:
    """``.env``, or the file that ENV_FILE names, below the environment."""
    for name, text in dotenv_values(os.environ.get("ENV_FILE", ".env")).items():
        if text:
            os.environ.setdefault(name, text)


def main() -> None:
    """Entry point of ``make run`` and of the image's default command."""
    read_env_file()
    logging.getLogger("mech_queue").addHandler(logging.NullHandler())  # this process says it in one sentence itself
    service = Service(load())
    try:
        service.run()
    except (CannotStart, DataDirTaken, EmbeddedStoreError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    with suppress(OSError):
        service.say("supervisor", "stopped; the data is kept")


if __name__ == "__main__":
    main()
