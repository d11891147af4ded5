"""The service as real processes on free ports, for end-to-end tests: start, kill and look at each role."""

import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet

from tests.support.valkey import ValkeyServer, free_port
from tests.support.waiting import wait_until
from workers import child, commands

ROOT = Path(__file__).parents[2]
MASTER_KEY = "master-key-of-the-tests-0123456789abcdef"
ROLES = ("scheduler", "webhooks", "subscriptions", "api")


@dataclass(frozen=True)
class Application:
    """A new application with what is shown once."""

    id: str
    api_key: str
    webhook_secret: str

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a request in its name."""
        return {"x-api-key": self.api_key}


class Service:
    """Store, API, workers and scheduler. Close it; or use the fixture ``service``.

    ``environment`` adds settings. Each role's output is in ``log(role)``.
    """

    master_key = MASTER_KEY

    def __init__(self, roles: tuple[str, ...] = ROLES, persistent: bool = False, **environment: str) -> None:
        self.roles = roles
        self.store = ValkeyServer(persistent=persistent).start()
        self.port, self.metrics_port, self.flower_port = free_port(), free_port(), free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = tempfile.TemporaryDirectory(prefix="service-")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": self._logs.name,
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": self.store.url(),
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "FLOWER_PORT": str(self.flower_port),
            "FLOWER_BASIC_AUTH": "tests:tests",
            "MASTER_API_KEY": MASTER_KEY,
            "SECRETS_KEY": Fernet.generate_key().decode(),
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8,::1/128",
            **environment,
        }

    @property
    def url(self) -> str:
        """The API's address, without slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Service":
        """Start every role and wait until the API says it is healthy."""
        for role in self.roles:
            self.start_role(role)
        if "api" in self.roles:
            self.wait_until_healthy()
        return self

    def wait_until_healthy(self, deadline_s: float = 30) -> None:
        """Wait for the API; fails with its log."""
        try:
            wait_until(self.healthy, deadline_s, "a healthy API")
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.log('api')}") from None

    def start_role(self, role: str, **environment: str) -> None:
        """Start one role (again); several processes of a role need names such as ``api.2``."""
        with self._log_path(role).open("ab") as log:
            self.processes[role] = subprocess.Popen(
                child.command(commands.role(role.partition(".")[0])),
                cwd=ROOT,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_role(self, role: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End one role: SIGKILL takes it and everything it started, SIGTERM lets it drain."""
        process = self.processes.pop(role)
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(timeout=60)

    def healthy(self) -> bool:
        """Whether GET /health answers 200."""
        try:
            return requests.get(f"{self.url}/health", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def application(self, name: str = "test", **settings: Any) -> Application:
        """A new application, made with the master key."""
        answer = requests.post(
            f"{self.url}/api/applications",
            headers={"x-api-key": MASTER_KEY},
            json={"name": name, "settings": settings},
            timeout=10,
        )
        assert answer.status_code == 201, answer.text
        data = answer.json()["data"]
        return Application(data["id"], data["apiKey"], data["webhookSecret"])

    def log(self, role: str) -> str:
        """The end of a role's output."""
        return self.whole_log(role)[-4000:]

    def whole_log(self, role: str) -> str:
        """All of a role's output."""
        path = self._log_path(role)
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Kill everything and forget the data. Fails when a process wanted more than its user of the store may."""
        for role in list(self.processes):
            self.kill_role(role)
        self._logs.cleanup()
        self.store.close()

    def __enter__(self) -> "Service":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _log_path(self, role: str) -> Path:
        return Path(self._logs.name) / f"{role}.log"
